package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Client speaks to a running daemon through its admin socket.
type Client struct {
	socket string
	http   http.Client
}

// Dial makes a client of the daemon whose admin socket is at path. It connects
// with the first call.
func Dial(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{socket: path, http: http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 30 * time.Second}}
}

// Status asks what there is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// Plan asks what would be done now.
func (c *Client) Plan(ctx context.Context) (PlanStatus, error) {
	return call[PlanStatus](ctx, c, http.MethodGet, "/v1/plan", nil)
}

// Preview asks what would change if a proposal came into force now.
func (c *Client) Preview(ctx context.Context, p Proposal) (Preview, error) {
	body, err := json.Marshal(p)
	if err != nil {
		return Preview{}, err
	}
	return send[Preview](ctx, c, http.MethodPost, "/v1/preview", nil, bytes.NewReader(body))
}

// Jobs lists the newest jobs; empty arguments do not filter.
func (c *Client) Jobs(ctx context.Context, repo, status string, limit int) ([]JobStatus, error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if repo != "" {
		q.Set("repo", repo)
	}
	if status != "" {
		q.Set("status", status)
	}
	return call[[]JobStatus](ctx, c, http.MethodGet, "/v1/jobs", q)
}

// Job asks for one job, why it is as it is, and its timeline.
func (c *Client) Job(ctx context.Context, id fleet.JobID) (JobDetail, error) {
	return call[JobDetail](ctx, c, http.MethodGet, fmt.Sprintf("/v1/jobs/%d", id), nil)
}

// Events lists the journal's entries after one, oldest first.
func (c *Client) Events(ctx context.Context, after int64, limit int) ([]Event, error) {
	q := url.Values{"after": {strconv.FormatInt(after, 10)}, "limit": {strconv.Itoa(limit)}}
	return call[[]Event](ctx, c, http.MethodGet, "/v1/events", q)
}

// Sync makes the daemon look at everything now: pools, containers,
// registrations, jobs and what is granted, and try again what failed.
func (c *Client) Sync(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/v1/sync", nil)
	return err
}

// Rollouts asks how far each pool's roll-out is.
func (c *Client) Rollouts(ctx context.Context) ([]RolloutStatus, error) {
	return call[[]RolloutStatus](ctx, c, http.MethodGet, "/v1/rollouts", nil)
}

// RolloutHistory lists what became of a pool's roll-outs, or of all if pool is
// empty, the latest first.
func (c *Client) RolloutHistory(ctx context.Context, pool string, limit int) ([]RolloutTurn, error) {
	q := url.Values{"pool": {pool}, "limit": {strconv.Itoa(limit)}}
	return call[[]RolloutTurn](ctx, c, http.MethodGet, "/v1/rollouts/history", q)
}

// Order asks something of a pool's roll-out: pause, resume, promote, abort, or
// retry a bad version (all, if empty).
func (c *Client) Order(ctx context.Context, pool, order, version string) (RolloutStatus, error) {
	path := "/v1/rollouts/" + url.PathEscape(pool) + "/" + order
	return call[RolloutStatus](ctx, c, http.MethodPost, path, url.Values{"version": {version}})
}

// ErrNoDaemon says that nothing listens on the admin socket.
var ErrNoDaemon = errors.New("no daemon is running")

func call[T any](ctx context.Context, c *Client, method, path string, query url.Values) (T, error) {
	return send[T](ctx, c, method, path, query, nil)
}

func send[T any](ctx context.Context, c *Client, method, path string, query url.Values, body io.Reader) (T, error) {
	var out T
	u := url.URL{Scheme: "http", Host: "dayfly", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return out, err
	}
	resp, err := c.http.Do(req)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return out, fmt.Errorf("ask daemon at %s: %w", c.socket, errors.Join(ErrNoDaemon, op.Err))
	}
	if err != nil {
		return out, fmt.Errorf("ask daemon at %s: %w", c.socket, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return out, fmt.Errorf("ask daemon for %s: %w", path, fleet.ErrNotFound)
	}
	if resp.StatusCode == http.StatusConflict {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return out, fmt.Errorf("%s", bytes.TrimSpace(text))
	}
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return out, fmt.Errorf("ask daemon for %s: %s: %s", path, resp.Status, text)
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return out, fmt.Errorf("read daemon's answer to %s: %w", path, err)
	}
	return out, nil
}

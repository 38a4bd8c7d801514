package host

import (
	"bytes"
	"context"
	"crypto/tls"
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

// ErrContract says that the root half speaks another version of the contract.
var ErrContract = errors.New("the root half speaks another contract")

// ErrPeer says that the root half and the daemon do not take each other for who
// they are: another user of this node, or other keys.
var ErrPeer = errors.New("the root half and this daemon do not know each other")

// Client asks one root half. Its methods may be used at once.
type Client struct {
	where string // for people
	base  string
	http  *http.Client
}

// Local is the root half on this node, behind its Unix socket.
func Local(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return Over(socket, "http://host", &http.Transport{DialContext: dial, MaxIdleConns: 8, IdleConnTimeout: time.Minute})
}

// Remote is the root half of another node, at HOST:PORT. keys are the daemon's,
// as "dayfly host keys" makes them.
func Remote(node, address string, keys Keys) (*Client, error) {
	conf, err := keys.client(node)
	if err != nil {
		return nil, err
	}
	return Over(address, "https://"+address, &http.Transport{
		TLSClientConfig: conf, TLSHandshakeTimeout: 5 * time.Second, MaxIdleConns: 8, IdleConnTimeout: time.Minute,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
	}), nil
}

// Over is the root half behind a transport.
func Over(where, base string, transport http.RoundTripper) *Client {
	return &Client{where: where, base: base, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Where names the root half for people: its socket or address.
func (c *Client) Where() string { return c.where }

// callBound bounds a call that does not wait for anything.
const callBound = 15 * time.Second

// Hello asks who is there. A root half of another contract is ErrContract, one
// that is not ours to ask ErrPeer, one that does not answer fleet.ErrUnavailable.
func (c *Client) Hello(ctx context.Context) (Hello, error) {
	var h Hello
	err := c.call(ctx, callBound, http.MethodGet, "/v1/hello", nil, &h)
	if strange(err) {
		err = fmt.Errorf("%w: %w", ErrPeer, err)
	}
	return h, c.wrap("greet", err)
}

// Watch waits until the containers that run are not those of the view with
// that mark, and returns them. It may return the same view.
func (c *Client) Watch(ctx context.Context, mark string) (View, error) {
	var v View
	err := c.call(ctx, watchBound+callBound, http.MethodGet, "/v1/watch?after="+url.QueryEscape(mark), nil, &v)
	return v, c.wrap("watch", err)
}

// Inject delivers a JIT config, with what the job's log begins with and what its
// steps find in their environment. fleet.ErrUnknownOutcome says that the guest
// may have it; any other error that it has not.
func (c *Client) Inject(ctx context.Context, id fleet.VMID, name string, jit fleet.Secret, facts map[string]string, env fleet.Env) (Injected, error) {
	var done Injected
	err := c.call(ctx, injectBound+callBound, http.MethodPost, verb(id, "inject"), Injection{name, jit.Reveal(), facts, env}, &done)
	return done, c.wrap(fmt.Sprintf("inject into container %d", id), err)
}

// Busy asks what the processes of a running container say of its job.
func (c *Client) Busy(ctx context.Context, id fleet.VMID) (Work, error) {
	var w Work
	err := c.call(ctx, callBound, http.MethodGet, verb(id, "busy"), nil, &w)
	return w, c.wrap(fmt.Sprintf("look into container %d", id), err)
}

// Stats asks what a running container has used.
func (c *Client) Stats(ctx context.Context, id fleet.VMID) (Stats, error) {
	var s Stats
	err := c.call(ctx, callBound, http.MethodGet, verb(id, "stats"), nil, &s)
	return s, c.wrap(fmt.Sprintf("measure container %d", id), err)
}

// Collect asks for what the last boot of a container left, or has so far.
func (c *Client) Collect(ctx context.Context, id fleet.VMID) (Evidence, error) {
	var e Evidence
	err := c.call(ctx, callBound, http.MethodGet, verb(id, "collect"), nil, &e)
	return e, c.wrap(fmt.Sprintf("collect from container %d", id), err)
}

// Repair has the node's own tools mend what a task left half-done.
func (c *Client) Repair(ctx context.Context, id fleet.VMID, name, do string) error {
	err := c.call(ctx, repairBound+callBound, http.MethodPost, verb(id, "repair"), Repair{do, name}, nil)
	return c.wrap(fmt.Sprintf("%s container %d", do, id), err)
}

func verb(id fleet.VMID, name string) string {
	return "/v1/containers/" + strconv.Itoa(int(id)) + "/" + name
}

func (c *Client) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("root half at %s: %s: %w", c.where, what, err)
}

// call makes one request. What never reached the root half, and what it says
// had no effect, is told apart from what may have had one.
func (c *Client) call(ctx context.Context, bound time.Duration, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	req, err := request(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return lost(method, err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get(contractHeader); got != strconv.Itoa(Contract) {
		return lost(method, fmt.Errorf("%w: %q, this dayfly speaks %d", ErrContract, got, Contract))
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return lost(method, err)
	case len(text) > maxAnswer:
		return lost(method, fmt.Errorf("answer is longer than %d bytes", maxAnswer))
	case resp.StatusCode != http.StatusOK:
		return refused(resp.StatusCode, text)
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return lost(method, fmt.Errorf("answer: %w", err))
	}
	return nil
}

func request(ctx context.Context, method, url string, body any) (*http.Request, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, err
		}
		if len(text) > maxRequest {
			return nil, fmt.Errorf("request is longer than %d bytes: %w", maxRequest, fleet.ErrInvalid)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.GetBody = nil // never sent twice
	req.Header.Set(contractHeader, strconv.Itoa(Contract))
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// lost is a request without an answer that means anything: a question changed
// nothing, and neither did what found nobody to connect to.
func lost(method string, err error) error {
	var op *net.OpError
	var untrusted *tls.CertificateVerificationError
	unsent := errors.As(err, &op) && op.Op == "dial" || errors.As(err, &untrusted)
	if method == http.MethodGet || unsent {
		return fmt.Errorf("%w: %w", err, fleet.ErrUnavailable)
	}
	return fmt.Errorf("%w: %w", err, fleet.ErrUnknownOutcome)
}

// strange reports whether somebody was there and hung up without an answer, or
// would not go on with TLS: Peers closes a connection of another user without a
// word. A root half that is away refuses the connection itself.
func strange(err error) bool {
	var sent *url.Error
	var op *net.OpError
	return errors.As(err, &sent) && !sent.Timeout() && !errors.Is(err, context.Canceled) && !(errors.As(err, &op) && op.Op == "dial")
}

// refused reads an answer that is not 200.
func refused(status int, text []byte) error {
	var f failure
	if json.Unmarshal(text, &f) != nil || f.Error == "" {
		return fmt.Errorf("status %d: %w", status, fleet.ErrUnknownOutcome)
	}
	for _, k := range kinds {
		if k.name == f.Kind {
			return fmt.Errorf("%s: %w", f.Error, k.err)
		}
	}
	return errors.New(f.Error)
}

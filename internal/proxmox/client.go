package proxmox

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	pve "github.com/luthermonson/go-proxmox"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Config is what a Client needs to know.
type Config struct {
	URL        string            // "https://127.0.0.1:8006"; http is for loopback only
	Token      fleet.Secret      // USER@REALM!ID=SECRET
	CA         []byte            // PEM; the cluster's own CA, /etc/pve/pve-root-ca.pem. Empty: the system's
	ServerName string            // a name in the certificate, if not the one in URL
	Transport  http.RoundTripper // nil: one made for pveproxy

	TemplatePool string // resource pool of the templates
	RunnerPool   string // resource pool of the runners' containers
	First, Last  fleet.VMID
	Key          fleet.Secret // signs manifests; at least 16 bytes
	Requests     int          // at most so many requests open to one node; 0 is 4
	Log          *slog.Logger // nil: none
}

// Client is one Proxmox cluster, or a node alone. Its methods may be used at
// once.
type Client struct {
	conf     Config
	user     string // USER@REALM
	tokenID  string // USER@REALM!ID
	api      *pve.Client
	http     *http.Client
	log      *slog.Logger
	guests   cache
	pooled   membership
	walls    walls
	storages storages
	paces    paces
	longest  time.Duration // between two looks at a task; 0: lastPoll

	mu    sync.Mutex
	tasks map[upid]bool // that were waited for, so that a lost one is not mistaken for them
}

// Format implements fmt.Formatter: fmt prints what unexported fields hold,
// secrets included.
func (c *Client) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "Proxmox at %s", c.conf.URL) }

// Close closes idle connections. The Client stays usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }

const minKey = 16

// New makes a Client. It uses no network.
func New(conf Config) (*Client, error) {
	if conf.Requests <= 0 {
		conf.Requests = 4
	}
	if conf.Log == nil {
		conf.Log = slog.New(slog.DiscardHandler)
	}
	id, secret, ok := strings.Cut(conf.Token.Reveal(), "=")
	user, _, isToken := strings.Cut(id, "!")
	if !ok || !isToken || secret == "" || !strings.Contains(user, "@") {
		return nil, errors.New("proxmox token: want USER@REALM!ID=SECRET")
	}
	if err := conf.check(); err != nil {
		return nil, err
	}
	base, err := baseURL(conf.URL)
	if err != nil {
		return nil, err
	}
	next, err := conf.transport()
	if err != nil {
		return nil, err
	}
	rt := &transport{next: next, limit: conf.Requests, log: conf.Log, gates: map[string]chan struct{}{}}
	client := &http.Client{Transport: rt, CheckRedirect: noRedirect}
	c := &Client{conf: conf, user: user, tokenID: id, http: client, log: conf.Log, tasks: map[upid]bool{}}
	c.guests.init()
	c.api = pve.NewClient(base, pve.WithHTTPClient(client), pve.WithAPIToken(id, secret),
		pve.WithUserAgent("dayfly"), pve.WithLogger(silent{}))
	return c, nil
}

func (conf Config) check() error {
	switch {
	case conf.TemplatePool == "" || conf.RunnerPool == "":
		return errors.New("proxmox: the resource pools of templates and runners must be named")
	case conf.First < 100 || conf.Last > 999999999 || conf.First > conf.Last:
		return fmt.Errorf("proxmox: VMID range %d to %d: want 100 <= first <= last <= 999999999", conf.First, conf.Last)
	case len(conf.Key.Reveal()) < minKey:
		return fmt.Errorf("proxmox: the key that signs manifests is shorter than %d bytes", minKey)
	}
	return nil
}

func (conf Config) transport() (http.RoundTripper, error) {
	tc := &tls.Config{ServerName: conf.ServerName, MinVersion: tls.VersionTLS12}
	if len(conf.CA) > 0 {
		// The CA is pinned, not the leaf, which Proxmox renews by itself
		// (pve-cluster, Setup.pm).
		tc.RootCAs = x509.NewCertPool()
		if !tc.RootCAs.AppendCertsFromPEM(conf.CA) {
			return nil, errors.New("proxmox CA: no certificate in PEM form")
		}
	}
	if conf.Transport != nil {
		return conf.Transport, nil
	}
	return wire(tc, conf.Requests), nil
}

func baseURL(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("proxmox URL: %w", err)
	}
	loopback := u.Hostname() == "localhost"
	if ip := net.ParseIP(u.Hostname()); ip != nil {
		loopback = ip.IsLoopback()
	}
	switch {
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return "", fmt.Errorf("proxmox URL %q: want https://HOST:8006", raw)
	case u.Scheme == "https", u.Scheme == "http" && loopback:
		return u.Scheme + "://" + u.Host + "/api2/json", nil
	case u.Scheme == "http":
		return "", fmt.Errorf("proxmox URL %q: http would show the token to the network; use https", raw)
	default:
		return "", fmt.Errorf("proxmox URL %q: want https://HOST:8006", raw)
	}
}

// noRedirect hands a redirect to the transport's caller as it is: following it
// would send the token elsewhere.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// silent is go-proxmox's logger: at debug level the library prints bodies, and
// with them JIT configs.
type silent struct{}

func (silent) Debugf(string, ...any) {}
func (silent) Errorf(string, ...any) {}
func (silent) Infof(string, ...any)  {}
func (silent) Warnf(string, ...any)  {}

func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.ask(ctx, http.MethodGet, path, into, func(ctx context.Context) error { return c.api.Get(ctx, path, nil) })
}

func (c *Client) put(ctx context.Context, path string, params map[string]any) error {
	return unwrap(http.MethodPut, path, c.api.Put(ctx, path, params, nil))
}

// post starts a task.
func (c *Client) post(ctx context.Context, path string, params map[string]any) (upid, error) {
	var id upid
	var body any
	if params != nil {
		body = params
	}
	err := c.ask(ctx, http.MethodPost, path, &id, func(ctx context.Context) error { return c.api.Post(ctx, path, body, nil) })
	return id.checked(http.MethodPost, path, err)
}

// remove starts a task. Parameters of a DELETE are in the query: a body is
// refused with status 501.
func (c *Client) remove(ctx context.Context, path string, query url.Values) (upid, error) {
	var id upid
	path += "?" + query.Encode()
	err := c.ask(ctx, http.MethodDelete, path, &id, func(ctx context.Context) error { return c.api.Delete(ctx, path, nil) })
	return id.checked(http.MethodDelete, path, err)
}

// bodyKey is where the transport finds who wants the body of an answer.
type bodyKey struct{}

// ask has go-proxmox send a request and reads the answer itself: the library
// copies each answer once more and goes through it four times, and a listing
// comes every few seconds.
func (c *Client) ask(ctx context.Context, method, path string, into any, send func(context.Context) error) error {
	var body []byte
	err := send(context.WithValue(ctx, bodyKey{}, &body))
	if err == nil && into != nil {
		err = json.Unmarshal(body, &struct {
			Data any `json:"data"`
		}{into})
	}
	return unwrap(method, path, err)
}

// unwrap finds the transport's *Error in what go-proxmox and net/http made of
// it. Anything else is an answer that the library could not read.
func unwrap(method, path string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	path, _, _ = strings.Cut(path, "?")
	e := &Error{Method: method, Path: path, Reason: "answer is not what the Proxmox API gives", Kind: fleet.ErrUnknownOutcome}
	if method == http.MethodGet {
		e.Kind = fleet.ErrUnavailable
	}
	// A decoding error names offsets and types, never content.
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, kind := errors.AsType[*json.UnmarshalTypeError](err)
	if syntax || kind {
		e.Reason += ": " + err.Error()
	}
	return e
}

// container is the path of one container.
func container(node string, id fleet.VMID, rest string) string {
	return fmt.Sprintf("/nodes/%s/lxc/%d%s", url.PathEscape(node), id, rest)
}

// inRange refuses to act on what cannot be ours.
func (c *Client) inRange(id fleet.VMID) error {
	if id < c.conf.First || id > c.conf.Last {
		return fmt.Errorf("VMID %d is outside the range %d to %d: %w", id, c.conf.First, c.conf.Last, fleet.ErrInvalid)
	}
	return nil
}

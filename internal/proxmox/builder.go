package proxmox

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	pve "github.com/luthermonson/go-proxmox"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// BuilderConfig is what a Builder needs to know.
type BuilderConfig struct {
	URL         string       // "https://pve:8006" or "https://pve:8006/api2/json"; http is for loopback only
	User        string       // USER@REALM!ID with Token, USER@REALM with Password
	Token       fleet.Secret // the token's secret; wins over Password
	Password    fleet.Secret
	CA          []byte // PEM; empty: the system's
	ServerName  string // a name in the certificate, if not the one in URL
	Fingerprint string // SHA-256 of the server's certificate, in hex; pins it instead of checking its chain
	Insecure    bool   // checks no certificate at all
	Transport   http.RoundTripper

	Pool        string        // resource pool of the templates; empty: none
	TaskTimeout time.Duration // for each task; 0 is 10 minutes
	Log         *slog.Logger  // nil: none
}

// Builder is the side of Proxmox that bakes templates: it makes containers,
// configures and converts them. It has its own token, with more privileges
// than the Client's, and touches only what its caller made, which the caller
// proves by the manifest in the description.
type Builder struct {
	c    *Client
	conf BuilderConfig

	mu      sync.Mutex
	adopted map[Task]bool // found by VMID and user, as the answer that names them was lost
}

// Format implements fmt.Formatter: fmt prints what unexported fields hold,
// secrets included.
func (b *Builder) Format(f fmt.State, r rune) { b.c.Format(f, r) }

// Close closes idle connections. The Builder stays usable.
func (b *Builder) Close() { b.c.Close() }

// User is who the Builder is to Proxmox: USER@REALM!ID or USER@REALM.
func (b *Builder) User() string { return b.c.tokenID }

// Root reports whether Proxmox takes the Builder for root@pam itself: a token
// of root@pam is restricted like any other user.
func (b *Builder) Root() bool { return b.c.tokenID == "root@pam" }

// buildPoll is the longest time between two looks at a task: a build waits for
// one task after the other, and has nothing else to do.
const buildPoll = 50 * time.Millisecond

// NewBuilder makes a Builder. It uses no network.
func NewBuilder(conf BuilderConfig) (*Builder, error) {
	conf.TaskTimeout = cmp.Or(conf.TaskTimeout, 10*time.Minute)
	if conf.Log == nil {
		conf.Log = slog.New(slog.DiscardHandler)
	}
	base, err := conf.base()
	if err != nil {
		return nil, err
	}
	if err := conf.checkUser(); err != nil {
		return nil, err
	}
	next, err := conf.transport()
	if err != nil {
		return nil, err
	}
	const requests = 4
	var rt http.RoundTripper = &transport{next: next, limit: requests, log: conf.Log, gates: map[string]chan struct{}{}}
	opts := []pve.Option{pve.WithUserAgent("dayfly-packer"), pve.WithLogger(silent{})}
	user, _, isToken := strings.Cut(conf.User, "!")
	if isToken {
		opts = append(opts, pve.WithAPIToken(conf.User, conf.Token.Reveal()))
	} else {
		rt = &session{next: rt, base: base, user: conf.User, password: conf.Password}
	}
	client := &http.Client{Transport: rt, CheckRedirect: noRedirect}
	c := &Client{
		conf: Config{URL: conf.URL, TemplatePool: conf.Pool, RunnerPool: conf.Pool, First: 100, Last: 999999999, Requests: requests},
		user: user, tokenID: conf.User, http: client, log: conf.Log, tasks: map[upid]bool{},
		longest: buildPoll,
	}
	c.guests.init()
	c.api = pve.NewClient(base, append(opts, pve.WithHTTPClient(client))...)
	return &Builder{c: c, conf: conf, adopted: map[Task]bool{}}, nil
}

// CheckURL says what is wrong with the URL.
func (conf BuilderConfig) CheckURL() error {
	_, err := conf.base()
	return err
}

// CheckCA says what is wrong with the certificate authority.
func (conf BuilderConfig) CheckCA() error {
	_, err := conf.roots()
	return err
}

// CheckFingerprint says what is wrong with the fingerprint.
func (conf BuilderConfig) CheckFingerprint() error {
	_, err := conf.pin()
	return err
}

func (conf BuilderConfig) base() (string, error) {
	return baseURL(strings.TrimSuffix(strings.TrimSuffix(conf.URL, "/"), "/api2/json"))
}

// roots are nil for the system's.
func (conf BuilderConfig) roots() (*x509.CertPool, error) {
	if len(conf.CA) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(conf.CA) {
		return nil, errors.New("proxmox CA: no certificate in PEM form")
	}
	return pool, nil
}

// pin is nil without a fingerprint.
func (conf BuilderConfig) pin() ([]byte, error) {
	if conf.Fingerprint == "" {
		return nil, nil
	}
	sum, err := hex.DecodeString(strings.ReplaceAll(conf.Fingerprint, ":", ""))
	if err != nil || len(sum) != sha256.Size {
		return nil, fmt.Errorf("fingerprint %q: want SHA-256 in hex, as the web interface shows it", conf.Fingerprint)
	}
	return sum, nil
}

func (conf BuilderConfig) checkUser() error {
	user, id, isToken := strings.Cut(conf.User, "!")
	switch {
	case !strings.Contains(user, "@"):
		return fmt.Errorf("username %q: want USER@REALM or USER@REALM!TOKENID", conf.User)
	case isToken && id == "":
		return fmt.Errorf("username %q: the token has no name", conf.User)
	case isToken && conf.Token.Reveal() == "":
		return fmt.Errorf("username %q names a token: its secret is missing", conf.User)
	case !isToken && conf.Token.Reveal() != "":
		return fmt.Errorf("username %q names no token, but a token's secret is given: want USER@REALM!TOKENID", conf.User)
	case !isToken && conf.Password.Reveal() == "":
		return fmt.Errorf("username %q: neither a token nor a password is given", conf.User)
	}
	return nil
}

func (conf BuilderConfig) transport() (http.RoundTripper, error) {
	roots, err := conf.roots()
	if err != nil {
		return nil, err
	}
	want, err := conf.pin()
	if err != nil {
		return nil, err
	}
	tc := &tls.Config{ServerName: conf.ServerName, MinVersion: tls.VersionTLS12, RootCAs: roots, InsecureSkipVerify: conf.Insecure || want != nil}
	if want != nil {
		// Unlike VerifyPeerCertificate it is called for resumed sessions too.
		tc.VerifyConnection = func(s tls.ConnectionState) error {
			if got := sha256.Sum256(s.PeerCertificates[0].Raw); string(got[:]) != string(want) {
				return fmt.Errorf("the server's certificate has the fingerprint %X, want %X", got, want)
			}
			return nil
		}
	}
	if conf.Transport != nil {
		return conf.Transport, nil
	}
	return wire(tc, 4), nil
}

// Task is the UPID of something that Proxmox does.
type Task string

// Wait waits until a task ends, at most for the task timeout. The task goes on
// when the wait is given up: fleet.ErrUnknownOutcome.
func (b *Builder) Wait(ctx context.Context, t Task) error {
	ctx, cancel := context.WithTimeout(ctx, b.conf.TaskTimeout)
	defer cancel()
	return b.c.wait(ctx, upid(t))
}

// Log is what a task has printed so far.
func (b *Builder) Log(ctx context.Context, t Task) ([]string, error) {
	return b.c.taskLog(ctx, upid(t))
}

// adopt notes a task that was found instead of named.
func (b *Builder) adopt(t upid) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.adopted[Task(t)] = true
}

// Adopted reports whether a task that makes something was found by its VMID and
// user, as the answer that names it was lost: it may be that of another build
// with the same token.
func (b *Builder) Adopted(t Task) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.adopted[t]
}

// Abort stops a task, which cleans up after itself, and waits for its end. A
// task that has ended already is left as it ended. An adopted one is waited for
// and not stopped.
func (b *Builder) Abort(ctx context.Context, t Task) error {
	if b.Adopted(t) {
		return b.Wait(ctx, t)
	}
	path := "/nodes/" + url.PathEscape(upid(t).node()) + "/tasks/" + string(t)
	stop := unwrap(http.MethodDelete, path, b.c.api.Delete(ctx, path, nil))
	err := b.Wait(ctx, t)
	if unknown(err) && stop != nil {
		return fmt.Errorf("stop task: %w", stop)
	}
	return err
}

// Version asks for the version of the node that answers.
func (b *Builder) Version(ctx context.Context) (Version, error) { return b.c.Version(ctx) }

// Nodes lists the cluster's nodes.
func (b *Builder) Nodes(ctx context.Context) ([]fleet.Node, error) { return b.c.Nodes(ctx) }

// Taken reports whether any guest of the cluster has the VMID.
func (b *Builder) Taken(ctx context.Context, id fleet.VMID) (bool, error) { return b.c.Taken(ctx, id) }

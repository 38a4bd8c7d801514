package github

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/google/go-github/v62/github"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// DefaultURL is the API of github.com.
const DefaultURL = "https://api.github.com/"

// Config says which GitHub and which App.
type Config struct {
	URL       string            // base of the API; http only for loopback; empty is DefaultURL
	App       string            // the App's id ("12345") or client id ("Iv23li…")
	Key       fleet.Secret      // the App's private key, PEM
	Transport http.RoundTripper // nil is a clone of http.DefaultTransport
	Now       func() time.Time  // nil is time.Now
	Points    int               // GitHub's a minute and endpoint; 0 is 900; an Enterprise Server may have more
	Log       *slog.Logger      // nil discards
}

// Client talks to GitHub as one App. It is safe for concurrent use.
type Client struct {
	gh     *github.Client
	app    appKey
	clock  *clock
	limits *limits
	tokens *tokens
	groups groupCache
	log    *slog.Logger
}

// New checks the configuration and reads the key. It asks nothing of GitHub.
func New(cfg Config) (*Client, error) {
	base, err := baseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.App == "" {
		return nil, fmt.Errorf("app id: empty: %w", fleet.ErrInvalid)
	}
	key, err := parseKey(cfg.Key)
	if err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Points <= 0 {
		cfg.Points = pointsPerMinute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Transport == nil {
		cfg.Transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	c := &Client{log: cfg.Log}
	c.clock = &clock{now: cfg.Now}
	c.limits = newLimits(c.clock, cfg.Points)
	c.app = appKey{id: cfg.App, key: key, clock: c.clock, last: &issued{}}
	w := &wire{base: cfg.Transport, clock: c.clock, limits: c.limits, cache: newCache(), log: cfg.Log}
	c.gh = github.NewClient(&http.Client{Transport: w})
	c.gh.BaseURL, c.gh.UserAgent = base, "dayfly"
	c.tokens = newTokens(c)
	return c, nil
}

func baseURL(text string) (*url.URL, error) {
	if text == "" {
		text = DefaultURL
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("github url: %w: %w", err, fleet.ErrInvalid)
	case u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, fmt.Errorf("github url %q: want a plain address such as %s: %w", u.Redacted(), DefaultURL, fleet.ErrInvalid)
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return nil, fmt.Errorf("github url %q: want https (http is for loopback only): %w", text, fleet.ErrInvalid)
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/" // go-github refuses a base without it
	}
	return u, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// call is one use of go-github: what the wire must know of it, and what the
// wire found, which go-github hides behind the context's error.
type call struct {
	class   class
	account int64 // installation; 0 is the App itself
	secret  string
	bound   time.Duration // of each request
	sent    bool          // a request may have reached GitHub
	err     error
}

type callKey struct{}

// The bounds of one request. GitHub gives up on a request itself after 10 s.
const (
	readBound  = 30 * time.Second
	writeBound = 10 * time.Second
)

// do runs one use of go-github under the wire.
func (c *Client) do(ctx context.Context, cl *call, use func(context.Context) error) error {
	cl.bound = readBound
	if cl.class.effect() || cl.class == auth {
		cl.bound = writeBound
	}
	err := use(context.WithValue(ctx, callKey{}, cl))
	switch {
	case err == nil:
		return nil
	case cl.err != nil:
		return cl.err
	case cl.sent: // an answer came, and go-github cannot read it
		return fmt.Errorf("%w: read the answer: %w", lost(cl.class), err)
	}
	return err
}

// asApp runs calls that the App makes for itself. A refused JWT is made anew
// once: the first refusal tells GitHub's clock, which the next JWT goes by.
func (c *Client) asApp(ctx context.Context, kind class, use func(context.Context) error) error {
	for try := 1; ; try++ {
		jwt, err := c.app.token()
		if err != nil {
			return err
		}
		err = c.do(ctx, &call{class: kind, secret: jwt}, use)
		if !unauthorized(err) {
			return err
		}
		c.app.drop(jwt)
		if try == 2 {
			return err
		}
	}
}

// as runs calls under the installation that covers scope. A token that is
// refused is dropped, and everything but the minting of a JIT config is tried
// once more with a new one: a refused request has no effect.
func (c *Client) as(ctx context.Context, scope fleet.Scope, kind class, want need, use func(context.Context) error) error {
	if err := checkScope(scope); err != nil {
		return err
	}
	for try := 1; ; try++ {
		key, token, err := c.tokens.token(ctx, scope, want)
		if err != nil {
			return err
		}
		err = c.do(ctx, &call{class: kind, account: key.installation, secret: token}, use)
		if !unauthorized(err) {
			return err
		}
		c.tokens.drop(key, token)
		if kind == mint {
			return fmt.Errorf("%w: the token was refused, the next try uses a new one: %w", fleet.ErrUnavailable, err)
		}
		if try == 2 {
			return err
		}
	}
}

func unauthorized(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusUnauthorized
}

var (
	accountName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	repoName    = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
)

// checkScope keeps what is not a name out of the paths of requests, where
// go-github puts it unescaped.
func checkScope(s fleet.Scope) error {
	owner, repo, isRepo := strings.Cut(string(s), "/")
	ok := accountName.MatchString(owner)
	if isRepo {
		ok = ok && repoName.MatchString(repo) && repo != "." && repo != ".."
	}
	if !ok {
		return fmt.Errorf("scope %q: want an organisation or owner/repository: %w", string(s), fleet.ErrInvalid)
	}
	return nil
}

func split(s fleet.Scope) (owner, repo string) {
	owner, repo, _ = strings.Cut(string(s), "/")
	return owner, repo
}

package github

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/go-github/v62/github"
	"golang.org/x/sync/singleflight"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// need is what a token must allow. Tokens are narrowed to it, so that the one
// that every poll sends cannot register a runner or touch a repository.
type need int

const (
	readJobs      need = iota // runs, jobs, the list of repositories
	orgRunners                // runners and groups of an organisation
	repoRunners               // runners of a repository
	readContents              // the files of a repository
	writeStatuses             // statuses of a repository's commits
	writeChecks               // check runs of a repository's commits
	writeJobs                 // run a repository's jobs again
)

// runners is what the runners of scope need.
func runners(scope fleet.Scope) need {
	if scope.Repo() {
		return repoRunners
	}
	return orgRunners
}

func (n need) permissions() *github.InstallationPermissions {
	p := &github.InstallationPermissions{Metadata: github.String("read")}
	switch n {
	case readJobs:
		p.Actions = github.String("read")
	case orgRunners:
		p.OrganizationSelfHostedRunners = github.String("write")
	case repoRunners:
		p.Administration = github.String("write")
	case readContents:
		p.Contents = github.String("read")
	case writeStatuses:
		p.Statuses = github.String("write")
	case writeChecks:
		p.Checks = github.String("write")
	case writeJobs:
		p.Actions = github.String("write")
	}
	return p
}

// narrow reports whether a token is good for one repository alone: one that
// may change it, or read what is in it.
func (n need) narrow() bool { return n != readJobs && n != orgRunners }

// tokenKey is what a token is for.
type tokenKey struct {
	installation int64
	need         need
	repo         string // name without owner, lower case; empty is all
}

func keyFor(installation int64, scope fleet.Scope, n need) tokenKey {
	key := tokenKey{installation: installation, need: n}
	if n.narrow() {
		_, name := split(scope)
		key.repo = strings.ToLower(name)
	}
	return key
}

func (k tokenKey) options() *github.InstallationTokenOptions {
	opts := &github.InstallationTokenOptions{Permissions: k.need.permissions()}
	if k.repo != "" {
		opts.Repositories = []string{k.repo}
	}
	return opts
}

type token struct {
	text string
	ends time.Time // GitHub's time
}

// Tokens live an hour. One is replaced refreshAhead of its end, and used as
// long as usableFor remains when GitHub does not give another.
const (
	refreshAhead = 5 * time.Minute
	usableFor    = 30 * time.Second
)

// tokens keeps installation ids by account and tokens by installation and
// need. The network is used without the mutex, by one goroutine for each
// thing wanted; everyone who wants it waits with a context of their own.
type tokens struct {
	c      *Client
	flight singleflight.Group

	mu            sync.Mutex
	installations map[string]int64 // by account, lower case: an App is installed once on each
	tokens        map[tokenKey]token
}

func newTokens(c *Client) *tokens {
	return &tokens{c: c, installations: map[string]int64{}, tokens: map[tokenKey]token{}}
}

// token is a valid token for scope.
func (t *tokens) token(ctx context.Context, scope fleet.Scope, want need) (tokenKey, string, error) {
	id, err := t.installation(ctx, scope)
	if err != nil {
		return tokenKey{}, "", err
	}
	key := keyFor(id, scope, want)
	now := t.c.clock.github()
	t.mu.Lock()
	have := t.tokens[key]
	t.mu.Unlock()
	if have.ends.Sub(now) > refreshAhead {
		return key, have.text, nil
	}
	v, err := t.share(ctx, fmt.Sprintf("token %v", key), func(ctx context.Context) (any, error) {
		return t.mint(ctx, key, scope)
	})
	if err != nil {
		if have.ends.Sub(now) > usableFor {
			return key, have.text, nil
		}
		return key, "", err
	}
	return key, v.(token).text, nil
}

// share runs get once for all who want the same thing now. It runs under a
// deadline of its own, not the first caller's.
func (t *tokens) share(ctx context.Context, what string, get func(context.Context) (any, error)) (any, error) {
	ch := t.flight.DoChan(what, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*writeBound)
		defer cancel()
		return get(ctx)
	})
	select {
	case r := <-ch:
		return r.Val, r.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: wait for GitHub: %w", fleet.ErrUnavailable, context.Cause(ctx))
	}
}

func (t *tokens) mint(ctx context.Context, key tokenKey, scope fleet.Scope) (token, error) {
	var got *github.InstallationToken
	err := t.c.asApp(ctx, auth, func(ctx context.Context) (err error) {
		got, _, err = t.c.gh.Apps.CreateInstallationToken(ctx, key.installation, key.options())
		return err
	})
	if err == nil && (got.GetToken() == "" || got.GetExpiresAt().IsZero()) {
		err = fmt.Errorf("%w: the answer lacks token or expires_at", fleet.ErrUnavailable)
	}
	if gone(err) {
		t.forget(scope) // uninstalled and installed again, it has another id
	}
	if err != nil {
		return token{}, fmt.Errorf("get installation token for %s: %w", scope.Owner(), explainToken(err, key.need))
	}
	fresh := token{text: got.GetToken(), ends: got.GetExpiresAt().Time}
	t.mu.Lock()
	t.tokens[key] = fresh
	t.mu.Unlock()
	return fresh, nil
}

// installation is the App's installation on the account of scope.
func (t *tokens) installation(ctx context.Context, scope fleet.Scope) (int64, error) {
	owner := strings.ToLower(scope.Owner())
	if id, ok := t.known(scope); ok {
		return id, nil
	}
	v, err := t.share(ctx, "installation "+strings.ToLower(string(scope)), func(ctx context.Context) (any, error) {
		found, err := t.c.findInstallation(ctx, scope)
		if err != nil {
			return int64(0), err
		}
		t.mu.Lock()
		t.installations[owner] = found.GetID()
		t.mu.Unlock()
		return found.GetID(), nil
	})
	if err != nil {
		return 0, fmt.Errorf("find installation for %s: %w", scope, err)
	}
	return v.(int64), nil
}

// known is the installation on scope's account, if it was found already.
func (t *tokens) known(scope fleet.Scope) (int64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, ok := t.installations[strings.ToLower(scope.Owner())]
	return id, ok
}

func (c *Client) findInstallation(ctx context.Context, scope fleet.Scope) (*github.Installation, error) {
	owner, repo := split(scope)
	var found *github.Installation
	err := c.asApp(ctx, auth, func(ctx context.Context) (err error) {
		if scope.Repo() {
			found, _, err = c.gh.Apps.FindRepositoryInstallation(ctx, owner, repo)
		} else {
			found, _, err = c.gh.Apps.FindOrganizationInstallation(ctx, owner)
		}
		return err
	})
	if err == nil && found.GetID() == 0 {
		err = fmt.Errorf("%w: the answer lacks id", fleet.ErrUnavailable)
	}
	return found, err
}

func (t *tokens) forget(scope fleet.Scope) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.installations, strings.ToLower(scope.Owner()))
}

// drop removes a token that GitHub refused, unless it was replaced already.
func (t *tokens) drop(key tokenKey, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tokens[key].text == text {
		delete(t.tokens, key)
	}
}

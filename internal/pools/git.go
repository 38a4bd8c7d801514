package pools

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// GitConfig says where a repository is and how to get at it.
type GitConfig struct {
	// URL is https://, http:// (without a token), ssh://, user@host:path, or
	// an absolute path of a repository on this machine, bare or not.
	URL    string
	Branch string // empty is the repository's own default
	Path   string // directory of the pool files; empty is the top

	User  string       // with Token; empty is "x-access-token", as GitHub wants it
	Token fleet.Secret // password or access token, for https://
	App   Tokens       // makes the tokens instead
	CA    string       // file of extra certificate authorities, PEM, for https://

	SSHKey     string // file of an unencrypted private key, for SSH
	KnownHosts string // file of the host keys to trust, for SSH

	Verify       Verify // whose commits are obeyed; the zero value is everybody's
	AllowRewrite bool   // a new commit need not follow the one in force

	Timeout  time.Duration // of one Load; zero is 30 s
	MaxBytes int64         // of one answer of the server; zero is 16 MiB
}

// Tokens makes tokens that live for a while, as those of a GitHub App do.
type Tokens interface {
	Token(ctx context.Context) (fleet.Secret, error)
}

const (
	defaultUser     = "x-access-token"
	defaultTimeout  = 30 * time.Second
	defaultMaxBytes = 16 << 20
)

// Git reads the *.hcl files at the tip of a branch. A Load asks for the tip
// and, when that is not the known revision, fetches the one commit into memory
// and reads the files from its tree. Nothing is ever checked out, no git
// program is run, no hook, filter, submodule or link is followed.
func Git(c GitConfig) Source {
	if c.User == "" {
		c.User = defaultUser
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = defaultMaxBytes
	}
	return &repository{config: c}
}

type repository struct {
	config GitConfig
	mu     sync.Mutex // one Load at a time
	keys   string     // hash of the keys that the last Load verified by
}

// String implements Source.
func (r *repository) String() string {
	s := "git " + redact(r.config.URL)
	if r.config.Branch != "" {
		s += " branch " + r.config.Branch
	}
	if r.config.Path != "" {
		s += " path " + r.config.Path
	}
	return s
}

// redact takes user information out of a URL.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return raw
	}
	u.User = nil
	return u.String()
}

// At implements Source.
func (r *repository) At(ctx context.Context, revision string) (Set, error) {
	return r.guarded(ctx, func(ctx context.Context) (Set, error) {
		p, err := r.config.at(ctx, revision)
		if err != nil {
			return Set{}, err
		}
		p.store = modest{p.store, r.config.MaxBytes}
		commit, err := readCommit(p.store, p.tip)
		if err != nil {
			return Set{}, err
		}
		set, err := r.config.read(p.store, commit)
		set.Origin = r.String()
		return set, err
	})
}

// Load implements Source.
func (r *repository) Load(ctx context.Context, known Known) (Set, error) {
	return r.guarded(ctx, func(ctx context.Context) (Set, error) { return r.load(ctx, known) })
}

// guarded bounds a use of the repository, and words what goes wrong.
func (r *repository) guarded(ctx context.Context, use func(context.Context) (Set, error)) (set Set, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	if err := r.config.Validate(); err != nil {
		return Set{}, err
	}
	// go-git has had panics on malformed objects more than once
	// (GO-2026-5693, CVE-2026-33762), and a server is not to be trusted.
	defer func() {
		if p := recover(); p != nil {
			set, err = Set{}, fmt.Errorf("read %s: git library: %v: %w", r, p, fleet.ErrInvalid)
		}
	}()
	set, err = use(ctx)
	var invalid *Invalid
	if err == nil || errors.Is(err, ErrUnchanged) || errors.As(err, &invalid) {
		return set, err
	}
	return Set{}, fmt.Errorf("read %s: %w", r, kindOfGit(ctx, err))
}

func (r *repository) load(ctx context.Context, known Known) (Set, error) {
	keys, err := r.trust(&known)
	if err != nil {
		return Set{}, err
	}
	var p point
	if r.config.isLocal() {
		p, err = r.config.local(known.Read)
	} else {
		p, err = r.config.remote(ctx, known.Read)
	}
	if err != nil {
		return Set{}, err
	}
	p.store = modest{p.store, r.config.MaxBytes}
	commit, err := readCommit(p.store, p.tip)
	if err != nil {
		return Set{}, err
	}
	signer, err := r.judge(ctx, p.store, commit, known, keys)
	if err != nil {
		return Set{}, err
	}
	set, err := r.config.read(p.store, commit)
	if err != nil {
		return Set{}, err
	}
	if err := r.guardRemoval(commit, known, set); err != nil {
		return Set{}, err
	}
	set.Origin, set.Signer = r.String(), signer
	return set, nil
}

// trust reads the keys; nil when nothing is verified. When they are not those
// of the last time, no verdict of before holds, nor does at first that of a
// commit which is in force unverified.
func (r *repository) trust(known *Known) (*trust, error) {
	if r.config.Verify.Mode == VerifyOff {
		return nil, nil
	}
	keys, err := r.config.Verify.load()
	if err != nil {
		return nil, err
	}
	if r.keys == "" && known.InForce.Signer == "" || r.keys != "" && r.keys != keys.hash {
		known.Read = ""
	}
	r.keys = keys.hash
	return keys, nil
}

func (c GitConfig) isLocal() bool { return filepath.IsAbs(c.URL) }

// Concerns implements Source. A repository on this machine may be a mirror of
// any other.
func (r *repository) Concerns(repo, ref string) bool {
	if r.config.Branch != "" && ref != "" && ref != "refs/heads/"+r.config.Branch {
		return false
	}
	name := strings.TrimSuffix(strings.TrimSuffix(r.config.URL, "/"), ".git")
	return r.config.isLocal() || strings.HasSuffix(strings.ToLower(name), strings.ToLower(repo))
}

// scp matches user@host:path, which is no URL.
var scp = regexp.MustCompile(`^([A-Za-z0-9._-]+)@([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]):([^/:].*|/.*)$`)

var branchForm = regexp.MustCompile(`^[^\s\pC~^:?*\[\\]+$`)

// Validate reports what is wrong with the configuration itself, the first of
// it. Its errors are of the kind fleet.ErrInvalid.
func (c GitConfig) Validate() error {
	for _, check := range []func() error{c.CheckBranch, c.CheckPath, c.CheckURL} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// CheckBranch says what is wrong with the name of the branch.
func (c GitConfig) CheckBranch() error {
	if c.Branch != "" && (!branchForm.MatchString(c.Branch) || strings.HasPrefix(c.Branch, "-")) {
		return c.invalid(fmt.Sprintf("%.80q is not the name of a branch", c.Branch))
	}
	return nil
}

// CheckPath says what is wrong with the directory of the pool files.
func (c GitConfig) CheckPath() error {
	if clean := path.Clean("/" + c.Path); c.Path != "" && (path.IsAbs(c.Path) || clean[1:] != path.Clean(c.Path)) {
		return c.invalid(fmt.Sprintf("path %.80q must be relative, below the top of the repository", c.Path))
	}
	return nil
}

// CheckURL says what is wrong with the URL and the credentials that go with it.
func (c GitConfig) CheckURL() error {
	if problem := c.urlProblem(); problem != "" {
		return c.invalid(problem)
	}
	return nil
}

func (c GitConfig) invalid(problem string) error {
	return fmt.Errorf("git repository %s: %s: %w", redact(c.URL), problem, fleet.ErrInvalid)
}

func (c GitConfig) urlProblem() string {
	if c.isLocal() {
		return c.without("a local repository", c.hasToken(), c.SSHKey != "")
	}
	if scp.MatchString(c.URL) {
		return c.sshProblem()
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return "the URL cannot be read"
	}
	if _, has := u.User.Password(); has || (u.User != nil && u.Scheme != "ssh") {
		return "the URL contains credentials; give a token separately"
	}
	return c.schemeProblem(u)
}

func (c GitConfig) schemeProblem(u *url.URL) string {
	switch {
	case u.Scheme == "file":
		return "file:// is not supported; give the absolute path alone"
	case u.Scheme == "git":
		return "git:// is neither encrypted nor authenticated; use https:// or ssh://"
	case u.Scheme == "ssh" && u.Host != "":
		return c.sshProblem()
	case u.Scheme == "http" && c.hasToken():
		return "a token must not travel over http://; use https://"
	case (u.Scheme == "https" || u.Scheme == "http") && u.Host != "":
		return c.without(u.Scheme+"://", c.SSHKey != "")
	}
	return "a URL starting with https:// or ssh://, user@host:path, or an absolute path is expected"
}

func (c GitConfig) without(what string, unusable ...bool) string {
	for _, given := range unusable {
		if given {
			return what + " has no use for the credentials that are given"
		}
	}
	return ""
}

func (c GitConfig) hasToken() bool { return !c.Token.Empty() || c.App != nil }

func (c GitConfig) sshProblem() string {
	switch {
	case c.SSHKey == "":
		return "SSH needs the file of a private key"
	case c.KnownHosts == "":
		return "SSH needs a known_hosts file: a host key is never trusted on first use"
	case c.hasToken():
		return "SSH has no use for a token"
	}
	return ""
}

// Package access is how the data sources and post-processors reach Proxmox and
// the pools repository: settings that several components share, with the names
// that the builder has for them.
package access

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/pools"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// Proxmox is the way to the API of Proxmox VE.
type Proxmox struct {
	// URL of the Proxmox VE API, `https://pve.example.org:8006/api2/json`.
	// Default: the environment variable `PROXMOX_URL`. Plain http is accepted
	// on loopback only.
	ProxmoxURL string `mapstructure:"proxmox_url" required:"true"`
	// Accept any certificate of the server. Prefer `tls_ca_file` or
	// `tls_fingerprint`.
	InsecureSkipTLSVerify bool `mapstructure:"insecure_skip_tls_verify"`
	// SHA-256 fingerprint of the server's certificate, as the web interface
	// shows it. It is pinned: the certificate's chain is not checked.
	TLSFingerprint string `mapstructure:"tls_fingerprint"`
	// File with the certificate authority of the cluster, in PEM form:
	// `/etc/pve/pve-root-ca.pem` of any node.
	TLSCAFile string `mapstructure:"tls_ca_file"`
	// Who asks: `user@realm!tokenid` with `token`, or `user@realm` with
	// `password`. Default: the environment variable `PROXMOX_USERNAME`.
	Username string `mapstructure:"username" required:"true"`
	// Password of `username`. Default: the environment variable
	// `PROXMOX_PASSWORD`.
	Password string `mapstructure:"password"`
	// Secret of the API token that `username` names; wins over `password`.
	// Default: the environment variable `PROXMOX_TOKEN`.
	Token string `mapstructure:"token"`
	// How long one task of Proxmox may take (default `10m`).
	TaskTimeout time.Duration `mapstructure:"task_timeout"`
}

// Prepare fills in what the environment says and keeps secrets out of logs.
func (p *Proxmox) Prepare() {
	for field, name := range map[*string]string{
		&p.ProxmoxURL: "PROXMOX_URL", &p.Username: "PROXMOX_USERNAME", &p.Password: "PROXMOX_PASSWORD", &p.Token: "PROXMOX_TOKEN",
	} {
		*field = cmp.Or(*field, os.Getenv(name))
	}
	Hide(p.Password, p.Token)
}

// Hide keeps texts out of logs. Very short ones are no secrets, and hiding
// them would garble everything.
func Hide(secrets ...string) {
	for _, s := range secrets {
		if len(s) >= 3 {
			packersdk.LogSecretFilter.Set(s)
		}
	}
}

// Check says what is wrong, by field, all of it at once.
func (p *Proxmox) Check() []error {
	var f faults
	if p.ProxmoxURL == "" {
		f.say("proxmox_url", "required, also as PROXMOX_URL")
	}
	f.user(p)
	if p.TaskTimeout < 0 {
		f.say("task_timeout", "%s: want a time ahead", p.TaskTimeout)
	}
	conf := proxmox.BuilderConfig{URL: p.ProxmoxURL, Fingerprint: p.TLSFingerprint}
	if p.ProxmoxURL != "" {
		f.unless(conf.CheckURL(), "proxmox_url", p.ProxmoxURL)
	}
	f.unless(conf.CheckFingerprint(), "tls_fingerprint", p.TLSFingerprint)
	var err error
	if conf.CA, err = p.authority(); err == nil {
		err = conf.CheckCA()
	}
	f.unless(err, "tls_ca_file", p.TLSCAFile)
	return f
}

// faults are errors that begin with the name of a field.
type faults []error

func (f *faults) say(field, format string, args ...any) {
	*f = append(*f, fmt.Errorf(field+": "+format, args...))
}

// unless notes an error about a field, if there is one and the field's values
// are known.
func (f *faults) unless(err error, field string, values ...any) {
	if err != nil && Known(values...) {
		f.say(field, "%w", err)
	}
}

// user looks at who asks, and at what proves it.
func (f *faults) user(p *Proxmox) {
	switch {
	case !Known(p.Username):
	case p.Username == "":
		f.say("username", "required, also as PROXMOX_USERNAME: user@realm!tokenid")
	case !strings.Contains(p.Username, "@"):
		f.say("username", "%q: want user@realm!tokenid or user@realm", p.Username)
	case strings.HasSuffix(p.Username, "!"):
		f.say("username", "%q: the token has no name: want user@realm!tokenid", p.Username)
	case strings.Contains(p.Username, "!"):
		if p.Token == "" {
			f.say("token", "required with a username that names a token, also as PROXMOX_TOKEN")
		}
	case p.Token != "" && Known(p.Token):
		f.say("username", "%q names no token, but token is set: want user@realm!tokenid", p.Username)
	case p.Password == "":
		f.say("password", "required with a username that names no token, also as PROXMOX_PASSWORD")
	}
}

// authority is the content of the CA's file; nil without one.
func (p *Proxmox) authority() ([]byte, error) {
	if p.TLSCAFile == "" {
		return nil, nil
	}
	return os.ReadFile(p.TLSCAFile)
}

// Config is the client's configuration.
func (p *Proxmox) Config() (proxmox.BuilderConfig, error) {
	ca, err := p.authority()
	if err != nil {
		return proxmox.BuilderConfig{}, fmt.Errorf("tls_ca_file: %w", err)
	}
	return proxmox.BuilderConfig{
		URL: p.ProxmoxURL, User: p.Username, Token: fleet.NewSecret(p.Token), Password: fleet.NewSecret(p.Password), CA: ca,
		Fingerprint: p.TLSFingerprint, Insecure: p.InsecureSkipTLSVerify, TaskTimeout: p.TaskTimeout,
	}, nil
}

// Builder makes the client. It uses no network.
func (p *Proxmox) Builder() (*proxmox.Builder, error) {
	conf, err := p.Config()
	if err != nil {
		return nil, err
	}
	return proxmox.NewBuilder(conf)
}

// Repository is the git repository of the pool files.
type Repository struct {
	// The pools repository: `https://github.com/acme/pools.git`,
	// `git@github.com:acme/pools.git`, `ssh://...`, or the absolute path of a
	// bare repository on this machine.
	Repository string `mapstructure:"repository"`
	// Branch that the daemon follows (default `main`).
	Branch string `mapstructure:"branch"`
	// Directory of the pool files in the repository. Default: the top.
	Path string `mapstructure:"path"`
	// User name to go with `git_token` (default `x-access-token`, as GitHub
	// wants it).
	GitUsername string `mapstructure:"git_username"`
	// Access token for https. Default: the environment variables
	// `DAYFLY_GIT_TOKEN`, then `GITHUB_TOKEN`; only used for https.
	GitToken string `mapstructure:"git_token"`
	// File with extra certificate authorities for https, in PEM form.
	GitCAFile string `mapstructure:"git_ca_file"`
	// File with the private key for SSH, which nobody else may read.
	GitPrivateKeyFile string `mapstructure:"git_private_key_file"`
	// File with the host keys to trust for SSH. A host key is never trusted
	// on first use.
	GitKnownHostsFile string `mapstructure:"git_known_hosts_file"`
	// How long one exchange with the repository may take (default `30s`).
	GitTimeout time.Duration `mapstructure:"git_timeout"`
}

// Prepare fills in what the environment says and keeps secrets out of logs.
func (r *Repository) Prepare() {
	r.Branch = cmp.Or(r.Branch, "main")
	if strings.HasPrefix(r.Repository, "https://") {
		r.GitToken = cmp.Or(r.GitToken, os.Getenv("DAYFLY_GIT_TOKEN"), os.Getenv("GITHUB_TOKEN"))
	}
	Hide(r.GitToken)
}

// Check says what is wrong, by field, all of it at once.
func (r *Repository) Check() []error {
	var f faults
	if r.Repository == "" {
		f.say("repository", "required")
	}
	git := r.Git()
	f.unless(git.CheckBranch(), "branch", r.Branch)
	f.unless(git.CheckPath(), "path", r.Path)
	if r.Repository != "" {
		f.unless(git.CheckURL(), "repository", r.Repository, r.GitToken, r.GitPrivateKeyFile, r.GitKnownHostsFile)
	}
	for _, file := range []struct{ field, name string }{
		{"git_ca_file", r.GitCAFile}, {"git_private_key_file", r.GitPrivateKeyFile}, {"git_known_hosts_file", r.GitKnownHostsFile},
	} {
		if file.name != "" {
			_, err := os.Stat(file.name)
			f.unless(err, file.field, file.name)
		}
	}
	if r.GitTimeout < 0 {
		f.say("git_timeout", "%s: want a time ahead", r.GitTimeout)
	}
	return f
}

// Git is the repository as package pools knows it.
func (r *Repository) Git() pools.GitConfig {
	return pools.GitConfig{
		URL: r.Repository, Branch: r.Branch, Path: r.Path, User: r.GitUsername, Token: fleet.NewSecret(r.GitToken), CA: r.GitCAFile,
		SSHKey: r.GitPrivateKeyFile, KnownHosts: r.GitKnownHostsFile, Timeout: r.GitTimeout,
	}
}

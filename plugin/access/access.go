// Package access is how the data sources and post-processors reach Proxmox and
// the pools repository: settings that several components share, with the names
// that the builder has for them.
package access

import (
	"cmp"
	"errors"
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
	hide(p.Password, p.Token)
}

// hide keeps texts out of logs. Very short ones are no secrets, and hiding
// them would garble everything.
func hide(secrets ...string) {
	for _, s := range secrets {
		if len(s) >= 3 {
			packersdk.LogSecretFilter.Set(s)
		}
	}
}

// Check says what is wrong, by field.
func (p *Proxmox) Check() []error {
	var errs []error
	say := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if p.ProxmoxURL == "" {
		say("proxmox_url: required, also as PROXMOX_URL")
	}
	if p.Username == "" {
		say("username: required, also as PROXMOX_USERNAME: user@realm!tokenid")
	}
	if p.TaskTimeout < 0 {
		say("task_timeout: %s: want a time ahead", p.TaskTimeout)
	}
	if len(errs) > 0 || !Known(p.ProxmoxURL, p.Username, p.Token, p.Password, p.TLSFingerprint, p.TLSCAFile) {
		return errs
	}
	b, err := p.Builder()
	if err != nil {
		return []error{fmt.Errorf("proxmox_url, username, token or tls_*: %w", err)}
	}
	b.Close()
	return nil
}

// Builder makes the client. It uses no network.
func (p *Proxmox) Builder() (*proxmox.Builder, error) {
	conf := proxmox.BuilderConfig{
		URL: p.ProxmoxURL, User: p.Username, Token: fleet.NewSecret(p.Token), Password: fleet.NewSecret(p.Password),
		Fingerprint: p.TLSFingerprint, Insecure: p.InsecureSkipTLSVerify, TaskTimeout: p.TaskTimeout,
	}
	if p.TLSCAFile != "" {
		ca, err := os.ReadFile(p.TLSCAFile)
		if err != nil {
			return nil, fmt.Errorf("tls_ca_file: %w", err)
		}
		conf.CA = ca
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
	hide(r.GitToken)
}

// Check says what is wrong, by field.
func (r *Repository) Check() []error {
	if r.Repository == "" {
		return []error{errors.New("repository: required")}
	}
	var errs []error
	if r.GitTimeout < 0 {
		errs = append(errs, fmt.Errorf("git_timeout: %s: want a time ahead", r.GitTimeout))
	}
	known := Known(r.Repository, r.Branch, r.Path, r.GitToken, r.GitPrivateKeyFile, r.GitKnownHostsFile)
	if err := r.Git().Validate(); err != nil && known {
		errs = append(errs, fmt.Errorf("repository: %w", err))
	}
	return errs
}

// Git is the repository as package pools knows it.
func (r *Repository) Git() pools.GitConfig {
	return pools.GitConfig{
		URL: r.Repository, Branch: r.Branch, Path: r.Path, User: r.GitUsername, Token: fleet.NewSecret(r.GitToken), CA: r.GitCAFile,
		SSHKey: r.GitPrivateKeyFile, KnownHosts: r.GitKnownHostsFile, Timeout: r.GitTimeout,
	}
}

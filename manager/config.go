package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/pools"
)

// defaultConfig is where the daemon's configuration is.
const defaultConfig = "/etc/dayfly/dayfly.hcl"

// config is the daemon's configuration. Tagged fields are what the file says,
// the others what that means.
type config struct {
	Proxmox proxmoxConfig `hcl:"proxmox,block"`
	GitHub  githubConfig  `hcl:"github,block"`
	Pools   poolsConfig   `hcl:"pools,block"`
	Host    *hostConfig   `hcl:"host,block"`   // never nil after parseConfig; without Body if it was left out
	Daemon  *daemonConfig `hcl:"daemon,block"` // never nil after parseConfig
}

type proxmoxConfig struct {
	URL             string   `hcl:"url"`
	TokenFile       string   `hcl:"token_file,optional"`
	TokenCredential string   `hcl:"token_credential,optional"`
	CAFile          string   `hcl:"ca_file,optional"`
	ServerName      string   `hcl:"server_name,optional"`
	TemplatePool    string   `hcl:"template_pool"`
	RunnerPool      string   `hcl:"runner_pool"`
	VMIDs           string   `hcl:"vmids"`
	Body            hcl.Body `hcl:",body"`

	Token       fleet.Secret
	CA          []byte
	First, Last fleet.VMID
}

type githubConfig struct {
	URL                     string   `hcl:"url,optional"`
	App                     string   `hcl:"app"`
	KeyFile                 string   `hcl:"key_file,optional"`
	KeyCredential           string   `hcl:"key_credential,optional"`
	WebhookSecretFile       string   `hcl:"webhook_secret_file,optional"`
	WebhookSecretCredential string   `hcl:"webhook_secret_credential,optional"`
	Poll                    string   `hcl:"poll,optional"`
	Points                  int      `hcl:"points,optional"`
	Body                    hcl.Body `hcl:",body"`

	Every time.Duration // between polls of queued jobs

	Key, WebhookSecret fleet.Secret
}

type poolsConfig struct {
	Dir  string     `hcl:"dir,optional"`
	Git  *gitConfig `hcl:"git,block"`
	Body hcl.Body   `hcl:",body"`
}

type gitConfig struct {
	URL              string   `hcl:"url"`
	Branch           string   `hcl:"branch,optional"`
	Path             string   `hcl:"path,optional"`
	Interval         string   `hcl:"interval,optional"`
	TokenFile        string   `hcl:"token_file,optional"`
	TokenCredential  string   `hcl:"token_credential,optional"`
	SSHKeyFile       string   `hcl:"ssh_key_file,optional"`
	SSHKeyCredential string   `hcl:"ssh_key_credential,optional"`
	KnownHostsFile   string   `hcl:"known_hosts_file,optional"`
	CAFile           string   `hcl:"ca_file,optional"`
	GitHubApp        bool     `hcl:"github_app,optional"`
	AllowRewrite     bool     `hcl:"allow_rewrite,optional"`
	Body             hcl.Body `hcl:",body"`

	Verify *verifyConfig `hcl:"verify,block"`

	Every         time.Duration
	Token, SSHKey fleet.Secret
	SSHKeyPath    string // of whichever of the two was given
}

// verifyConfig says whose commits are obeyed.
type verifyConfig struct {
	Mode       string   `hcl:"mode,optional"`
	Signers    string   `hcl:"allowed_signers_file,optional"`
	Keyring    string   `hcl:"gpg_keyring_file,optional"`
	Body       hcl.Body `hcl:",body"`
	VerifyMode pools.VerifyMode
}

type daemonConfig struct {
	Listen      string   `hcl:"listen,optional"`
	StateDir    string   `hcl:"state_dir,optional"`
	AdminSocket string   `hcl:"admin_socket,optional"`
	LogLevel    string   `hcl:"log_level,optional"`
	LogFormat   string   `hcl:"log_format,optional"`
	Body        hcl.Body `hcl:",body"`

	Level slog.Level
}

// maxConfig bounds the file: HCL's parser is recursive, and what fits here
// cannot nest deep enough to hurt it.
const maxConfig = 64 << 10

// readConfig reads the file at path; the error is of reading, the diagnostics
// are of what it says. Secrets are not read yet: see secrets.
func readConfig(path string) (*config, *diagnostics, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, hinted{fmt.Errorf("read configuration: %w", err), "name the file with --config; scripts/dayfly.hcl is one to begin with"}
	}
	if info.Size() > maxConfig {
		return nil, nil, fmt.Errorf("read configuration %s: %d bytes, at most %d", path, info.Size(), maxConfig)
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	c, diags := parseConfig(path, src)
	return c, diags, nil
}

// parseConfig decodes and checks all that needs no other file.
func parseConfig(name string, src []byte) (*config, *diagnostics) {
	file, list := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	d := &diagnostics{list: list, files: map[string]*hcl.File{name: file}}
	c := &config{Daemon: &daemonConfig{}, Host: &hostConfig{}}
	if list.HasErrors() {
		return c, d // what follows from a syntax error is noise
	}
	c.Daemon, c.Host = nil, nil
	d.add(gohcl.DecodeBody(file.Body, nil, c))
	d.explainUnknown()
	if c.Daemon == nil {
		c.Daemon = &daemonConfig{}
	}
	if c.Host == nil {
		c.Host = &hostConfig{}
	}
	c.check(d)
	d.tidy()
	c.defaults(filepath.Dir(name))
	return c, d
}

// defaults fills in what the file leaves out. Relative paths are relative to
// the file. systemd names the folders that it made for the unit.
func (c *config) defaults(dir string) {
	d := c.Daemon
	d.Listen = cmp.Or(d.Listen, "127.0.0.1:8484")
	d.StateDir = cmp.Or(d.StateDir, os.Getenv("STATE_DIRECTORY"), "/var/lib/dayfly")
	d.AdminSocket = cmp.Or(d.AdminSocket, filepath.Join(cmp.Or(os.Getenv("RUNTIME_DIRECTORY"), "/run/dayfly"), "dayfly.sock"))
	paths := []*string{&c.Proxmox.TokenFile, &c.Proxmox.CAFile, &c.GitHub.KeyFile, &c.GitHub.WebhookSecretFile,
		&c.Pools.Dir, &d.StateDir, &d.AdminSocket, &c.Host.KeysFile}
	c.Host.defaults()
	if g := c.Pools.Git; g != nil {
		paths = append(paths, &g.TokenFile, &g.SSHKeyFile, &g.KnownHostsFile, &g.CAFile)
		if g.Verify != nil {
			paths = append(paths, &g.Verify.Signers, &g.Verify.Keyring)
		}
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

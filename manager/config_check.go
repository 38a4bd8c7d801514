package main

import (
	"cmp"
	"net"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/pools"
)

// check finds what is wrong with values that were given; that a needed one is
// missing was said when decoding.
func (c *config) check(d *diagnostics) {
	if c.Proxmox.Body != nil {
		c.Proxmox.check(d)
	}
	if c.GitHub.Body != nil {
		c.GitHub.check(d)
	}
	if c.Pools.Body != nil {
		c.Pools.check(d)
	}
	if c.Daemon.Body != nil {
		c.Daemon.check(d)
	}
	if c.Host.Body != nil {
		c.Host.check(d)
	}
}

// poolID is Proxmox's format of a resource pool's name, nested ones included
// (PVE::AccessControl, pve-poolid).
var poolID = regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}$`)

func (c *proxmoxConfig) check(d *diagnostics) {
	c.URL = checkURL(d, c.Body, "url", c.URL)
	for _, p := range []struct{ name, value string }{{"template_pool", c.TemplatePool}, {"runner_pool", c.RunnerPool}} {
		if p.value != "" && !poolID.MatchString(p.value) {
			d.at(c.Body, p.name, "Invalid resource pool", "%q is no name of a Proxmox resource pool.", p.value)
		}
	}
	if c.TemplatePool != "" && c.TemplatePool == c.RunnerPool {
		d.at(c.Body, "runner_pool", "Resource pools not apart",
			"Templates and runners need a resource pool each: the daemon's token may change what is in the second, and only clone what is in the first.")
	}
	if c.VMIDs != "" {
		c.checkVMIDs(d)
	}
}

// checkVMIDs reads the range. Proxmox takes 100 to 999999999 (PVE::JSONSchema,
// pve-vmid).
func (c *proxmoxConfig) checkVMIDs(d *diagnostics) {
	const lowest, highest = 100, 999_999_999
	from, to, ok := strings.Cut(c.VMIDs, "-")
	first, err1 := strconv.Atoi(strings.TrimSpace(from))
	last, err2 := strconv.Atoi(strings.TrimSpace(to))
	switch {
	case !ok || err1 != nil || err2 != nil:
		d.at(c.Body, "vmids", "Invalid range of VMIDs", `%q is no range: want FIRST-LAST, for example "20000-20999".`, c.VMIDs)
	case first > last:
		d.at(c.Body, "vmids", "Invalid range of VMIDs", "The range ends before it begins.")
	case first < lowest || last > highest:
		d.at(c.Body, "vmids", "Invalid range of VMIDs", "Proxmox's VMIDs are from %d to %d.", lowest, highest)
	}
	c.First, c.Last = fleet.VMID(first), fleet.VMID(last)
}

// appID is an App's number, or its client id.
var appID = regexp.MustCompile(`^([0-9]+|Iv[0-9A-Za-z.]+)$`)

func (c *githubConfig) check(d *diagnostics) {
	c.URL = checkURL(d, c.Body, "url", c.URL)
	if c.App != "" && !appID.MatchString(c.App) {
		d.at(c.Body, "app", "Invalid GitHub App", "%q is neither an App's number nor its client id; both are on the App's settings page.", c.App)
	}
	c.Every = interval(d, c.Body, "poll", c.Poll)
	if c.Points != 0 && c.Points < minPoints {
		d.at(c.Body, "points", "Invalid points", "%d: want at least %d, or leave it out: GitHub's own 900 then hold.", c.Points, minPoints)
	}
}

// minPoints still allow a JIT config every three seconds: a write costs five,
// and a sixth is left to others.
const minPoints = 120

// minInterval keeps the servers' owners friendly.
const minInterval = 5 * time.Second

// interval reads the period of a poll, a minute by default.
func interval(d *diagnostics, body hcl.Body, name, text string) time.Duration {
	if text == "" {
		return time.Minute
	}
	every, err := time.ParseDuration(text)
	if err != nil || every < minInterval {
		d.at(body, name, "Invalid interval", `%q: want a duration of at least %s, for example "60s".`, text, minInterval)
	}
	return every
}

// look sees whether the folder of pools is there. The daemon starts without it,
// and says so: it may come later.
func (c *poolsConfig) look(d *diagnostics) {
	if c.Dir == "" {
		return
	}
	if info, err := os.Stat(c.Dir); err != nil {
		d.at(c.Body, "dir", "Missing folder", "%v.", err)
	} else if !info.IsDir() {
		d.at(c.Body, "dir", "Not a folder", "%s is no folder of pool files.", c.Dir)
	}
}

func (c *poolsConfig) check(d *diagnostics) {
	if (c.Dir == "") == (c.Git == nil) {
		d.at(c.Body, "dir", "Need one source of pools", `Set either dir, a folder of pool files, or a git block.`)
	}
	if c.Git != nil && c.Git.Body != nil {
		c.Git.check(d)
	}
}

func (c *gitConfig) check(d *diagnostics) {
	c.Every = interval(d, c.Body, "interval", c.Interval)
	if c.Path != "" && (path.IsAbs(c.Path) || path.Clean(c.Path) == ".." || strings.HasPrefix(path.Clean(c.Path), "../")) {
		d.at(c.Body, "path", "Invalid path", "%q is not inside the repository.", c.Path)
	}
	ssh := c.SSHKeyFile != "" || c.SSHKeyCredential != ""
	token := c.TokenFile != "" || c.TokenCredential != ""
	switch {
	case c.GitHubApp && (ssh || token):
		d.at(c.Body, "github_app", "Two ways to log in", "With github_app, the App of the github block makes the tokens: leave out the key or token.")
	case c.GitHubApp && repoOf(c.URL) == "":
		d.at(c.Body, "github_app", "Not at GitHub", "With github_app, url is https://HOST/OWNER/REPOSITORY.")
	}
	if c.Verify != nil && c.Verify.Body != nil {
		c.Verify.check(d)
	}
	if ssh && token {
		d.at(c.Body, "token_file", "Two ways to log in", "Use a token with https or an SSH key with ssh, not both.")
	}
	if ssh && c.KnownHostsFile == "" {
		d.at(c.Body, "known_hosts_file", "Missing known_hosts_file", `An SSH server is only trusted by its key: make the file with "ssh-keyscan HOST" and compare it with what the server's owner publishes.`)
	}
	if c.URL != "" {
		c.checkRemote(d, ssh)
	}
}

func (c *verifyConfig) check(d *diagnostics) {
	mode, ok := pools.ParseVerifyMode(cmp.Or(c.Mode, "head"))
	if !ok {
		d.at(c.Body, "mode", "Invalid mode", "%q: want off, head or strict.", c.Mode)
	}
	if mode != pools.VerifyOff && c.Signers == "" && c.Keyring == "" {
		d.at(c.Body, "allowed_signers_file", "Missing keys", "Set allowed_signers_file, as of ssh-keygen, or gpg_keyring_file, or both.")
	}
	c.VerifyMode = mode
}

// repoOf is OWNER/REPOSITORY of an https address at GitHub; empty for others.
func repoOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	name := strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
	if strings.Count(name, "/") != 1 || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") {
		return ""
	}
	return name
}

// hostedAt is OWNER/REPOSITORY of a git repository's address, if its host is the
// one whose API is at api (empty: github.com).
func hostedAt(address, api string) string {
	host := "github.com"
	if u, err := url.Parse(api); api != "" && err == nil && u.Hostname() != "api.github.com" {
		host = u.Hostname() // a GitHub Enterprise Server has both under one name
	}
	if at, name, short := strings.Cut(address, ":"); short && !strings.Contains(address, "://") {
		address = "ssh://" + at + "/" + name // user@host:owner/repository
	}
	u, err := url.Parse(address)
	if err != nil || !strings.EqualFold(u.Hostname(), host) {
		return ""
	}
	return repoOf("https://" + u.Host + u.Path)
}

// checkRemote checks the repository's address. file:// needs the git program
// and git:// proves nothing about who answers.
func (c *gitConfig) checkRemote(d *diagnostics, ssh bool) {
	scp := regexp.MustCompile(`^[\w.-]+@[\w.-]+:[^/]`).MatchString(c.URL)
	u, err := url.Parse(c.URL)
	switch {
	case path.IsAbs(c.URL): // a repository on this machine
	case scp || err == nil && u.Scheme == "ssh":
		if !ssh {
			d.at(c.Body, "url", "Missing SSH key", "A repository over ssh needs ssh_key_file or ssh_key_credential.")
		}
	case err != nil || u.Host == "":
		d.at(c.Body, "url", "Invalid address", "%q is no address of a git repository: want https://… or ssh://….", c.URL)
	case u.User != nil:
		d.at(c.Body, "url", "Secret in an address", "A secret is never part of the configuration: use token_file or token_credential.")
	case u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()):
		if ssh {
			d.at(c.Body, "url", "SSH key without ssh", "An SSH key is of no use with %s.", u.Scheme)
		}
	default:
		d.at(c.Body, "url", "Unsafe address", "%s is not allowed: want https or ssh (http only on the loopback).", u.Scheme)
	}
}

func (c *daemonConfig) check(d *diagnostics) {
	if c.Listen != "" {
		host, port, err := net.SplitHostPort(c.Listen)
		if _, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || strings.ContainsAny(host, " /") {
			d.at(c.Body, "listen", "Invalid address", `%q: want HOST:PORT, for example "127.0.0.1:8484".`, c.Listen)
		}
	}
	// A socket's path is at most 107 bytes on Linux (unix(7)).
	if len(c.AdminSocket) > 107 {
		d.at(c.Body, "admin_socket", "Path too long", "A socket's path has at most 107 bytes.")
	}
	levels := []string{"debug", "info", "warn", "error"}
	if c.LogLevel != "" && !slices.Contains(levels, c.LogLevel) {
		d.at(c.Body, "log_level", "Invalid level", "%q: want %s.", c.LogLevel, oneOf(levels))
	} else {
		_ = c.Level.UnmarshalText([]byte(c.LogLevel)) // info when empty
	}
	formats := []string{"text", "json"}
	if c.LogFormat != "" && !slices.Contains(formats, c.LogFormat) {
		d.at(c.Body, "log_format", "Invalid format", "%q: want %s.", c.LogFormat, oneOf(formats))
	}
}

// checkURL checks an API's address and returns it without a slash at its end.
func checkURL(d *diagnostics, body hcl.Body, name, value string) string {
	if value == "" {
		return ""
	}
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		d.at(body, name, "Invalid address", "%q is no address: want https://HOST[:PORT].", value)
	case u.User != nil:
		d.at(body, name, "Secret in an address", "An address carries no user or password.")
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		d.at(body, name, "Unsafe address", "%s is not allowed: want https (http only on the loopback).", u.Scheme)
	}
	return strings.TrimSuffix(value, "/")
}

// loopback reports whether a host is this machine itself.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

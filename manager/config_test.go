package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// good is the text of a valid configuration, with one line in each block that
// a test may replace.
const good = `proxmox {
  url = "https://pve1:8006"
  token_file = "token"
  template_pool = "templates"
  runner_pool = "runners"
  vmids = "20000-20999"
}
github {
  app = 12345
  key_file = "key"
  webhook_secret_file = "secret"
}
pools {
  dir = "pools"
}
daemon {
  listen = ":8484"
}
`

func TestReportsGoToTheGitHubOfTheJobs(t *testing.T) {
	for _, tt := range []struct{ address, api, want string }{
		{"https://github.com/acme/pools.git", "", "acme/pools"},
		{"git@github.com:acme/pools.git", "https://api.github.com", "acme/pools"},
		{"ssh://git@github.com/acme/pools", "", "acme/pools"},
		{"https://git.lan/acme/pools.git", "", ""},
		{"https://github.com/acme/pools", "https://ghes.lan/api/v3", ""},
		{"git@ghes.lan:acme/pools.git", "https://ghes.lan/api/v3", "acme/pools"},
		{"/srv/pools.git", "", ""},
		{"https://github.com/acme/group/pools", "", ""},
	} {
		if got := hostedAt(tt.address, tt.api); got != tt.want {
			t.Errorf("%s, with the API at %q: got %q, want %q", tt.address, tt.api, got, tt.want)
		}
	}
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	git := func(lines string) [2]string { return [2]string{`dir = "pools"`, "git {\n" + lines + "\n}"} }
	tests := []struct {
		name    string
		replace [2]string
		want    string // part of the only diagnostic; empty is valid
	}{
		{"as it is", [2]string{}, ""},
		{"http on the loopback", [2]string{"https://pve1:8006", "http://127.0.0.1:8006/"}, ""},
		{"http on IPv6's loopback", [2]string{"https://pve1:8006", "http://[::1]:8006"}, ""},
		{"http elsewhere", [2]string{"https://pve1:8006", "http://pve1:8006"}, "Unsafe address"},
		{"no scheme", [2]string{"https://pve1:8006", "pve1:8006"}, "Invalid address"},
		{"password in the address", [2]string{"https://pve1", "https://root:x@pve1"}, "Secret in an address"},
		{"resource pool with a space", [2]string{`"runners"`, `"the runners"`}, "Invalid resource pool"},
		{"nested resource pool", [2]string{`"runners"`, `"ci/dayfly/runners"`}, ""},
		{"one resource pool for both", [2]string{`"runners"`, `"templates"`}, "Resource pools not apart"},
		{"one VMID", [2]string{"20000-20999", "20000"}, "Invalid range of VMIDs"},
		{"VMIDs as words", [2]string{"20000-20999", "low-high"}, "Invalid range of VMIDs"},
		{"VMIDs backwards", [2]string{"20000-20999", "20999-20000"}, "ends before it begins"},
		{"VMIDs of Proxmox itself", [2]string{"20000-20999", "1-99"}, "from 100 to 999999999"},
		{"VMIDs too large", [2]string{"20000-20999", "20000-9999999999"}, "from 100 to 999999999"},
		{"range of one VMID", [2]string{"20000-20999", "20000-20000"}, ""},
		{"App by client id", [2]string{"12345", `"Iv23liAbCdEf"`}, ""},
		{"App by name", [2]string{"12345", `"dayfly"`}, "Invalid GitHub App"},
		{"points of a large server", [2]string{"12345", "12345\npoints = 6000"}, ""},
		{"points below a JIT config", [2]string{"12345", "12345\npoints = 5"}, "Invalid points"},
		{"points below zero", [2]string{"12345", "12345\npoints = -1"}, "Invalid points"},
		{"missing attribute", [2]string{"app = 12345", ""}, `The argument "app" is required`},
		{"twice the same block", [2]string{"daemon {", "github {\n app = 1\n}\ndaemon {"}, "Duplicate github block"},
		{"variable", [2]string{`"https://pve1:8006"`, "var.url"}, "Variables not allowed"},
		{"list for a string", [2]string{`"https://pve1:8006"`, `["a"]`}, "string required"},
		{"no pools", [2]string{`dir = "pools"`, ""}, "Need one source of pools"},
		{"git with a token", git(`url = "https://github.com/acme/pools"` + "\n" + `token_file = "t"`), ""},
		{"git by ssh", git(`url = "ssh://git@github.com/acme/pools"` + "\n" + `ssh_key_file = "k"` + "\n" + `known_hosts_file = "h"`), ""},
		{"git by ssh, short", git(`url = "git@github.com:acme/pools.git"` + "\n" + `ssh_key_file = "k"` + "\n" + `known_hosts_file = "h"`), ""},
		{"git by ssh, short, without key", git(`url = "git@github.com:acme/pools.git"`), "Missing SSH key"},
		{"git by ssh without key", git(`url = "ssh://git@github.com/acme/pools"`), "Missing SSH key"},
		{"git by ssh without known hosts", git(`url = "ssh://git@github.com/acme/pools"` + "\n" + `ssh_key_file = "k"`), "Missing known_hosts_file"},
		{"ssh key with https", git(`url = "https://github.com/acme/pools"` + "\n" + `ssh_key_file = "k"` + "\n" + `known_hosts_file = "h"`), "SSH key without ssh"},
		{"ssh key and token", git(`url = "ssh://git@github.com/acme/pools"` + "\n" + `ssh_key_file = "k"` + "\n" + `known_hosts_file = "h"` + "\n" + `token_file = "t"`), "Two ways to log in"},
		{"git with the App", git(`url = "https://github.com/acme/pools.git"` + "\ngithub_app = true"), ""},
		{"git with the App and a token", git(`url = "https://github.com/acme/pools"` + "\ngithub_app = true\n" + `token_file = "t"`), "Two ways to log in"},
		{"git with the App elsewhere", git(`url = "https://git.lan/pools"` + "\ngithub_app = true"), "Not at GitHub"},
		{"verified git", git(`url = "/srv/pools.git"` + "\nallow_rewrite = true\nverify {\n" + `allowed_signers_file = "s"` + "\n}"), ""},
		{"verified git without keys", git(`url = "/srv/pools.git"` + "\nverify {\n" + `mode = "strict"` + "\n}"), "Missing keys"},
		{"unverified git", git(`url = "/srv/pools.git"` + "\nverify {\n" + `mode = "off"` + "\n}"), ""},
		{"git verified somehow", git(`url = "/srv/pools.git"` + "\nverify {\n" + `mode = "some"` + "\n" + `gpg_keyring_file = "k"` + "\n}"), "want off, head or strict"},
		{"git on this machine", git(`url = "/srv/pools.git"`), ""},
		{"git by file://", git(`url = "file:///srv/pools.git"`), "Invalid address"},
		{"git by git://", git(`url = "git://example.com/pools.git"`), "Unsafe address"},
		{"git by http", git(`url = "http://example.com/pools.git"`), "Unsafe address"},
		{"git with a token inside", git(`url = "https://ghp_x@github.com/acme/pools"`), "Secret in an address"},
		{"git too often", git(`url = "https://github.com/acme/pools"` + "\n" + `interval = "100ms"`), "at least 5s"},
		{"git without unit", git(`url = "https://github.com/acme/pools"` + "\n" + `interval = "60"`), "Invalid interval"},
		{"path outside", git(`url = "https://github.com/acme/pools"` + "\n" + `path = "a/../.."`), "not inside the repository"},
		{"listen on a name", [2]string{`":8484"`, `"localhost:8484"`}, ""},
		{"listen without port", [2]string{`":8484"`, `"localhost"`}, "want HOST:PORT"},
		{"listen on a port that is none", [2]string{`":8484"`, `":99999"`}, "want HOST:PORT"},
		{"long socket", [2]string{`listen = ":8484"`, `admin_socket = "/` + strings.Repeat("x", 107) + `"`}, "at most 107 bytes"},
		{"unknown level", [2]string{`listen = ":8484"`, `log_level = "trace"`}, "debug, info, warn or error"},
		{"unknown format", [2]string{`listen = ":8484"`, `log_format = "yaml"`}, "text or json"},
		{"secret inside", [2]string{`key_file = "key"`, `key_file = "key"` + "\n" + `webhook_secret = "hush"`}, "webhook_secret_file"},
		{"misspelt", [2]string{`listen = ":8484"`, `lisen = ":8484"`}, `Did you mean "listen"?`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			src := strings.Replace(good, test.replace[0], test.replace[1], 1)
			_, diags := parseConfig("dayfly.hcl", []byte(src))
			var b bytes.Buffer
			if err := diags.write(&b, false); err != nil {
				t.Fatal(err)
			}
			switch {
			case test.want == "" && len(diags.list) > 0:
				t.Errorf("got\n%s\nwant it valid", b.String())
			case test.want != "" && (len(diags.list) != 1 || !strings.Contains(b.String(), test.want)):
				t.Errorf("got %d diagnostics:\n%s\nwant only %q", len(diags.list), b.String(), test.want)
			case strings.Contains(b.String(), "hush"):
				t.Errorf("the secret is shown:\n%s", b.String())
			}
			for _, d := range diags.list {
				if d.Subject == nil || d.Subject.Start.Line == 0 {
					t.Errorf("%s has no place", d.Summary)
				}
			}
		})
	}
}

func TestConfigTellsWhatItMeans(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "/state")
	t.Setenv("RUNTIME_DIRECTORY", "")
	c, diags := parseConfig("/etc/dayfly/dayfly.hcl", []byte(good))
	if diags.list.HasErrors() {
		t.Fatal(diags.list)
	}
	for _, test := range []struct{ name, got, want string }{
		{"token_file", c.Proxmox.TokenFile, "/etc/dayfly/token"},
		{"ca_file", c.Proxmox.CAFile, ""},
		{"dir", c.Pools.Dir, "/etc/dayfly/pools"},
		{"state_dir", c.Daemon.StateDir, "/state"},
		{"admin_socket", c.Daemon.AdminSocket, "/run/dayfly/dayfly.sock"},
		{"app", c.GitHub.App, "12345"},
		{"log_level", c.Daemon.Level.String(), "INFO"},
	} {
		if test.got != test.want {
			t.Errorf("%s is %q, want %q", test.name, test.got, test.want)
		}
	}
	if c.Proxmox.First != 20000 || c.Proxmox.Last != 20999 {
		t.Errorf("VMIDs are %d to %d", c.Proxmox.First, c.Proxmox.Last)
	}
	_, every := c.Pools.source(nil)
	if every.Pools != 0 {
		t.Errorf("a folder is looked at every %v, want the default", every.Pools)
	}
}

func TestGitPoolsKeepTheirInterval(t *testing.T) {
	src := strings.Replace(good, `dir = "pools"`, "git {\nurl = \"https://github.com/acme/pools\"\ninterval = \"90s\"\n}", 1)
	c, diags := parseConfig("dayfly.hcl", []byte(src))
	if diags.list.HasErrors() {
		t.Fatal(diags.list)
	}
	source, every := c.Pools.source(nil)
	if every.Pools != 90*time.Second || !strings.Contains(source.String(), "https://github.com/acme/pools") {
		t.Errorf("source %s every %v", source, every.Pools)
	}
}

func TestCredentialNamesStayInTheirFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "outside"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../outside", "/etc/passwd", "a/b", ".."} {
		src := strings.Replace(good, `token_file = "token"`, `token_credential = "`+name+`"`, 1)
		c, diags := parseConfig("dayfly.hcl", []byte(src))
		c.readSecrets(diags, filepath.Join(dir, "credentials"), true)
		if len(diags.list) == 0 || diags.list[0].Summary != "Invalid credential" {
			t.Errorf("credential %q: got %v, want it refused", name, diags.list)
		}
	}
}

func TestSecretsKeepEverythingButTheLineEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for text, want := range map[string]string{"a b ": "a b ", "a\n": "a", "a\r\n": "a", "a\nb\n": "a\nb", "": ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readSecretFile(path, true); err != nil || got != want {
			t.Errorf("%q reads as %q, %v; want %q", text, got, err, want)
		}
	}
	if _, err := readSecretFile(t.TempDir(), false); err == nil {
		t.Error("a folder is read as a secret")
	}
}

func TestSecretsOpenToOthersAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("hush"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: false, 0o604: false, 0o620: false, 0o601: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := readSecretFile(path, true)
		if (err == nil) != want {
			t.Errorf("mode %#o: %v, want it read: %v", mode, err, want)
		}
		if err != nil && (!strings.Contains(err.Error(), `"chmod 600 `+path+`"`) || strings.Contains(err.Error(), "hush")) {
			t.Errorf("mode %#o: %v, want the command that mends it and nothing of the secret", mode, err)
		}
		if text, err := readSecretFile(path, false); text != "hush" || err != nil {
			t.Errorf("mode %#o: a credential is refused: %v", mode, err)
		}
	}
}

func TestSecretThatIsAPipeIsRefusedAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := readSecretFile(path, true); done <- err }()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("got %v, want that it is no regular file", err)
		}
	case <-time.After(patience):
		t.Error("it is waited for")
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("proxmox {\n token = <<X\na\nX\n}"))
	f.Add([]byte("pools {\n git {\n url = \"a@b:c\"\n}\n}"))
	f.Add([]byte(`proxmox "a" { vmids = "-" }`))
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > maxConfig {
			return
		}
		c, diags := parseConfig("dayfly.hcl", src)
		if c.Daemon == nil {
			t.Error("the daemon's block is nil")
		}
		if err := diags.write(&bytes.Buffer{}, true); err != nil {
			t.Error(err)
		}
		if r := diags.report(); r.Valid != (len(r.Diagnostics) == 0) {
			t.Errorf("valid is %v with %d diagnostics", r.Valid, len(r.Diagnostics))
		}
		if !diags.list.HasErrors() && (c.Proxmox.First < 100 || c.Proxmox.Last < c.Proxmox.First) {
			t.Errorf("VMIDs %d to %d are valid", c.Proxmox.First, c.Proxmox.Last)
		}
	})
}

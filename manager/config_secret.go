package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/hashicorp/hcl/v2"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/github"
	"github.com/dayfly-ci/dayfly/internal/pools"
)

// secret is one secret of the configuration: in a file of its own, or in a
// systemd credential.
type secret struct {
	body             hcl.Body
	name             string // "token": attributes token_file, token_credential
	file, credential string
	optional         bool
	into             *fleet.Secret
	path             *string                 // gets the file's path, for who reads it again; or nil
	check            func(text string) error // the error must not quote the text
}

// secrets lists those of the configuration.
func (c *config) secrets() []secret {
	all := []secret{
		{c.Proxmox.Body, "token", c.Proxmox.TokenFile, c.Proxmox.TokenCredential, false, &c.Proxmox.Token, nil, checkToken},
		{c.GitHub.Body, "key", c.GitHub.KeyFile, c.GitHub.KeyCredential, false, &c.GitHub.Key, nil, checkKey},
		{c.GitHub.Body, "webhook_secret", c.GitHub.WebhookSecretFile, c.GitHub.WebhookSecretCredential, false, &c.GitHub.WebhookSecret, nil, checkText},
	}
	if c.Host.Body != nil {
		all = append(all, c.hostSecret())
	}
	if g := c.Pools.Git; g != nil {
		all = append(all,
			secret{g.Body, "token", g.TokenFile, g.TokenCredential, true, &g.Token, nil, checkText},
			secret{g.Body, "ssh_key", g.SSHKeyFile, g.SSHKeyCredential, true, &g.SSHKey, &g.SSHKeyPath, checkPEM})
	}
	return all
}

// hostSecret is the keys that nodes trust each other by.
func (c *config) hostSecret() secret {
	return secret{c.Host.Body, "keys", c.Host.KeysFile, c.Host.KeysCredential, true, &c.Host.Keys, nil, checkHostKeys}
}

// readSecrets reads all secrets and public files. credentials is the folder
// that systemd gives the unit; without one, credentials are not read, and
// that is an error only if they must be.
func (c *config) readSecrets(d *diagnostics, credentials string, must bool) {
	for _, s := range c.secrets() {
		if s.body == nil || !s.chosen(d) || s.credential != "" && credentials == "" && !must {
			continue
		}
		s.read(d, credentials)
	}
	if c.Proxmox.Body != nil && c.Proxmox.CAFile != "" {
		c.Proxmox.CA = readCA(d, c.Proxmox.Body, c.Proxmox.CAFile)
	}
	g := c.Pools.Git
	if g == nil || g.Body == nil {
		return
	}
	if g.CAFile != "" {
		readCA(d, g.Body, g.CAFile)
	}
	if g.KnownHostsFile != "" {
		readPublic(d, g.Body, "known_hosts_file", g.KnownHostsFile)
	}
	if v := g.Verify; v != nil && v.Body != nil && v.VerifyMode != pools.VerifyOff {
		if err := (pools.Verify{Signers: v.Signers, Keyring: v.Keyring}).Check(); err != nil {
			d.at(v.Body, "allowed_signers_file", "Unusable keys", "%v.", err)
		}
	}
}

// readCA reads certificates.
func readCA(d *diagnostics, body hcl.Body, path string) []byte {
	text := readPublic(d, body, "ca_file", path)
	if text != nil && !x509.NewCertPool().AppendCertsFromPEM(text) {
		d.at(body, "ca_file", "No certificate", "%s holds no certificate in PEM; a Proxmox node's is /etc/pve/pve-root-ca.pem.", path)
	}
	return text
}

// chosen reports whether the secret is given in one way.
func (s secret) chosen(d *diagnostics) bool {
	switch {
	case s.file != "" && s.credential != "":
		d.at(s.body, s.name+"_credential", "One secret, two places", "Set either %s_file or %[1]s_credential.", s.name)
	case s.file == "" && s.credential == "" && !s.optional:
		d.at(s.body, s.name+"_file", "Missing secret", "Set %s_file or %[1]s_credential.", s.name)
	}
	return (s.file != "") != (s.credential != "")
}

func (s secret) read(d *diagnostics, credentials string) {
	attribute, path := s.name+"_file", s.file
	if s.credential != "" {
		attribute = s.name + "_credential"
		if !filepath.IsLocal(s.credential) || strings.Contains(s.credential, "/") {
			d.at(s.body, attribute, "Invalid credential", "%q is no name of a systemd credential.", s.credential)
			return
		}
		if credentials == "" {
			d.at(s.body, attribute, "No credentials here", "systemd gave this process none: start it as a service, with LoadCredential=%s:FILE in its unit, or use %s_file.", s.credential, s.name)
			return
		}
		path = filepath.Join(credentials, s.credential)
	}
	text, err := readSecretFile(path, s.credential == "")
	if err == nil {
		err = s.check(text)
	}
	var wrong secretError
	switch {
	case errors.As(err, &wrong):
		d.at(s.body, attribute, wrong.summary, "%s %s", path, wrong.detail)
	case errors.Is(err, fs.ErrPermission):
		d.at(s.body, attribute, "Unreadable secret", `%v: the user that the daemon runs as must own it. Run "chown USER %s".`, err, path)
	case err != nil:
		d.at(s.body, attribute, "Unreadable secret", "%v.", err)
	default:
		*s.into = fleet.NewSecret(text)
		if s.path != nil {
			*s.path = path
		}
	}
}

// secretError is what is wrong with a secret; it never quotes it.
type secretError struct{ summary, detail string }

func (e secretError) Error() string { return e.summary + ": " + e.detail }

// maxSecret is far above any key.
const maxSecret = 64 << 10

// readSecretFile reads a file that only its owner may read, without the line
// end that editors add. The mode of a systemd credential says nothing: systemd
// gives the unit's user access by an ACL, whose mask shows as the group's bits
// (exec-credential.c, write_credential).
func readSecretFile(path string, private bool) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // the open of a pipe waits for its other end
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", secretError{"Not a file", "is not a regular file."}
	}
	if mode := info.Mode().Perm(); private && mode&0o077 != 0 {
		return "", secretError{"Secret open to others", fmt.Sprintf(`has mode %#o: others than its owner can reach it. Run "chmod 600 %s".`, mode, path)}
	}
	if info.Size() > maxSecret {
		return "", secretError{"Not a secret", fmt.Sprintf("has %d bytes, at most %d.", info.Size(), maxSecret)}
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(f); err != nil {
		return "", err
	}
	return strings.TrimRight(b.String(), "\r\n"), nil
}

func readPublic(d *diagnostics, body hcl.Body, name, path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		detail := err.Error()
		if errors.Is(err, fs.ErrPermission) {
			detail += ": the user that the daemon runs as must be able to read it"
		}
		d.at(body, name, "Unreadable file", "%s.", detail)
		return nil
	}
	return text
}

// apiToken is USER@REALM!ID=UUID, as "pveum user token add" prints it in two
// parts (PVE::AccessControl).
var apiToken = regexp.MustCompile(`^[^\s@!=:]+@[A-Za-z][A-Za-z0-9._-]+![A-Za-z][A-Za-z0-9._-]+=[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

func checkToken(text string) error {
	if !apiToken.MatchString(text) {
		return secretError{"Not an API token", `holds no API token: want one line USER@REALM!ID=SECRET, for example "dayfly@pve!daemon=" and the UUID that "pveum user token add" prints.`}
	}
	return nil
}

func checkKey(text string) error {
	if err := github.CheckKey(fleet.NewSecret(text)); err != nil {
		return secretError{"Not a private key", fmt.Sprintf("holds no private key of an App: %v.", err)}
	}
	return nil
}

func checkPEM(text string) error {
	if block, _ := pem.Decode([]byte(text)); block == nil || !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return secretError{"Not a private key", `holds no private key: want what "ssh-keygen -t ed25519" writes.`}
	}
	return nil
}

func checkText(text string) error {
	switch {
	case text == "":
		return secretError{"Empty secret", "is empty."}
	case strings.ContainsAny(text, "\r\n"):
		return secretError{"Not a secret", "has more than one line."}
	}
	return nil
}

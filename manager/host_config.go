package main

import (
	"cmp"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/host"
)

// hostConfig is about the root halves: what the one of this machine is, and
// where the daemon finds those of other nodes.
type hostConfig struct {
	Socket         string     `hcl:"socket,optional"`
	User           string     `hcl:"user,optional"`
	Name           string     `hcl:"name,optional"`
	Listen         string     `hcl:"listen,optional"`
	KeysFile       string     `hcl:"keys_file,optional"`
	KeysCredential string     `hcl:"keys_credential,optional"`
	PVEDir         string     `hcl:"pve_dir,optional"`
	CgroupDir      string     `hcl:"cgroup_dir,optional"`
	PCT            []string   `hcl:"pct,optional"`
	Nodes          []hostNode `hcl:"node,block"`
	Body           hcl.Body   `hcl:",body"`

	Keys fleet.Secret
}

type hostNode struct {
	Name    string   `hcl:"name,label"`
	Address string   `hcl:"address"`
	Body    hcl.Body `hcl:",body"`
}

// defaultHostSocket is where dayfly-host.socket listens.
const defaultHostSocket = "/run/dayfly-host.sock"

var nodeForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

func (c *hostConfig) check(d *diagnostics) {
	if c.Name != "" && !nodeForm.MatchString(c.Name) {
		d.at(c.Body, "name", "Invalid node", "%q is no name of a Proxmox node.", c.Name)
	}
	if len(c.Socket) > 107 { // unix(7)
		d.at(c.Body, "socket", "Path too long", "A socket's path has at most 107 bytes.")
	}
	keys := c.KeysFile != "" || c.KeysCredential != ""
	if c.Listen != "" && len(c.Nodes) > 0 {
		d.at(c.Body, "listen", "Two sides in one", "listen is for a node that the daemon is not on, node blocks are for the daemon: they need different keys.")
	}
	if c.Listen != "" {
		checkAddress(d, c.Body, "listen", c.Listen)
	}
	if (c.Listen != "" || len(c.Nodes) > 0) && !keys {
		d.at(c.Body, "keys_file", "Missing keys", `Nodes trust each other by keys: "dayfly host keys" makes them, keys_file or keys_credential names them.`)
	}
	seen := map[string]bool{}
	for _, n := range c.Nodes {
		if !nodeForm.MatchString(n.Name) || seen[n.Name] {
			d.at(n.Body, "address", "Invalid node", "%q is no name of a Proxmox node, or given twice.", n.Name)
		}
		seen[n.Name] = true
		checkAddress(d, n.Body, "address", n.Address)
	}
	for _, p := range []struct{ name, path string }{{"pve_dir", c.PVEDir}, {"cgroup_dir", c.CgroupDir}} {
		if p.path != "" && !filepath.IsAbs(p.path) {
			d.at(c.Body, p.name, "Invalid path", "%q does not begin with a slash.", p.path)
		}
	}
	if len(c.PCT) > 0 && !filepath.IsAbs(c.PCT[0]) {
		d.at(c.Body, "pct", "Invalid command", "%q does not begin with a slash.", c.PCT[0])
	}
}

func checkAddress(d *diagnostics, body hcl.Body, name, address string) {
	h, port, err := net.SplitHostPort(address)
	if _, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || h == "" || strings.ContainsAny(h, " /") {
		d.at(body, name, "Invalid address", `%q: want HOST:PORT, for example "10.0.0.2:8485".`, address)
	}
}

// defaults fills in what the file leaves out.
func (c *hostConfig) defaults() {
	c.Socket = cmp.Or(c.Socket, defaultHostSocket)
	c.User = cmp.Or(c.User, "dayfly")
	if c.Name == "" {
		name, _ := os.Hostname()
		c.Name, _, _ = strings.Cut(name, ".") // as Proxmox names its nodes
	}
}

// clients are the root halves that the daemon asks: that of this machine, if
// it is configured or there, and those of other nodes.
func (c *hostConfig) clients() ([]*host.Client, error) {
	var list []*host.Client
	_, err := os.Stat(c.Socket)
	if here := c.Listen == "" && len(c.Nodes) == 0 && c.Body != nil; here || err == nil {
		list = append(list, host.Local(c.Socket))
	}
	for _, n := range c.Nodes {
		remote, err := host.Remote(n.Name, n.Address, host.Keys{PEM: c.Keys})
		if err != nil {
			return nil, fmt.Errorf("root half of %s: %w", n.Name, err)
		}
		list = append(list, remote)
	}
	return list, nil
}

// instanceBlock carries the instance's key to a node, with the keys.
const instanceBlock = "DAYFLY INSTANCE KEY"

// halfKey is the key that manifests are verified with: from systemd, with
// the keys of a node that the daemon is not on, or beside the daemon's journal.
func (c *config) halfKey(credentials string) (fleet.Secret, error) {
	if credentials != "" {
		if text, err := readSecretFile(filepath.Join(credentials, "instance.key"), false); err == nil {
			return fleet.NewSecret(text), nil
		}
	}
	for rest := []byte(c.Host.Keys.Reveal()); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		} else if block.Type == instanceBlock {
			return fleet.NewSecret(string(block.Bytes)), nil
		}
	}
	path := filepath.Join(c.Daemon.StateDir, "instance.key")
	text, err := readSecretFile(path, true)
	if err != nil {
		return fleet.Secret{}, hinted{fmt.Errorf("read instance key %s: %w", path, err),
			`the daemon makes it at its first start; for a node that the daemon is not on, "dayfly host keys" puts it with the node's keys`}
	}
	return fleet.NewSecret(text), nil
}

func checkHostKeys(text string) error {
	if block, _ := pem.Decode([]byte(text)); block == nil || block.Type != "CERTIFICATE" {
		return secretError{"Not a node's keys", `holds no keys of a node: "dayfly host keys" makes them.`}
	}
	return nil
}

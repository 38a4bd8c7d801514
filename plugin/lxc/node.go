package lxc

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/plugin/lxc/pct"
)

// nodeName is what Proxmox calls a machine with that host name: without its
// domain (pve-common, PVE/INotify.pm, nodename).
func nodeName(host string) string {
	name, _, _ := strings.Cut(strings.TrimSpace(host), ".")
	return name
}

// onNode reports whether the build runs on the node, as root, as far as names
// tell: every first node of a cluster is called "pve".
func (c *Config) onNode() bool {
	host, err := os.Hostname()
	if err != nil || nodeName(host) != c.Node || os.Geteuid() != 0 {
		return false
	}
	_, err = exec.LookPath("lxc-attach")
	return err == nil
}

// reachesNode reports whether there is a way to root on the node.
func (c *Config) reachesNode() bool { return c.HostSSH != nil || c.onNode() }

// usesNode reports whether the build needs that way.
func (c *Config) usesNode() bool {
	checks := c.OSTemplateChecksum != "" && c.OSTemplateURL == ""
	return c.Comm.Type == "pct" || checks || len(c.rootOptions()) > 0 || len(c.SmokeTest.Commands) > 0 && !c.SmokeTest.Skip
}

// nodeShell opens the way to root on the node, if there is one and the build
// needs it. Whoever answers has the node's name.
func (c *Config) nodeShell(ctx context.Context) (pct.Shell, error) {
	h := c.HostSSH
	switch {
	case !c.usesNode() || !c.reachesNode():
		return nil, nil
	case h == nil:
		return pct.Local{}, nil
	}
	shell, err := pct.Dial(ctx, pct.Host{Address: h.address(), User: h.Username, KeyFile: h.PrivateKeyFile, Password: h.Password,
		KnownHosts: h.KnownHostsFile, Fingerprint: h.HostKeyFingerprint})
	if err != nil {
		return nil, fmt.Errorf("host_ssh: %w", err)
	}
	if err := c.named(ctx, shell); err != nil {
		_ = shell.Close()
		return nil, fmt.Errorf("host_ssh: %w", err)
	}
	return shell, nil
}

// named makes sure that the machine behind a shell has the node's name.
func (c *Config) named(ctx context.Context, shell pct.Shell) error {
	host, err := pct.Output(ctx, shell, "hostname")
	if err != nil {
		return fmt.Errorf("ask %s for its host name: %w", c.HostSSH.address(), err)
	}
	if got := nodeName(host); got != c.Node {
		return fmt.Errorf("the machine at %s is called %q, not %q, as node says; hint: correct host_ssh.host, or node", c.HostSSH.address(), got, c.Node)
	}
	return nil
}

// confFile is a container's configuration on its node: /etc/pve/lxc is the
// node's own part of the cluster's.
func confFile(id fleet.VMID) string { return fmt.Sprintf("/etc/pve/lxc/%d.conf", id) }

// prove makes sure that the shell is that of the node where Proxmox has made a
// container of this build: names are not enough, as clusters have nodes of the
// same name, and containers of the same VMID. It comes before anything is done
// to the container there.
func (b *build) prove(ctx context.Context, id fleet.VMID) error {
	if b.node == nil {
		return nil
	}
	text, err := pct.Output(ctx, b.node, "cat", confFile(id))
	switch {
	case err == nil && b.mine(described(text)):
		return nil
	case errors.Is(err, pct.ErrLost) || ctx.Err() != nil:
		return fmt.Errorf("look at container %d on node %s: %w", id, b.conf.Node, err)
	}
	found := "is not of this build"
	if err != nil {
		found = fmt.Sprintf("cannot be seen (%v)", err)
	}
	here, hint := "this machine", "run the build on the node of proxmox_url, or give host_ssh"
	if h := b.conf.HostSSH; h != nil {
		here, hint = "the machine at "+h.address(), "correct host_ssh.host, or proxmox_url"
	}
	return fmt.Errorf("%s is called %s, but is not the node of that name at %s, which has just made container %d: what %s has in %s %s; hint: %s",
		here, b.conf.Node, b.pve(), id, here, confFile(id), found, hint)
}

// described is the description in a configuration file: comments, whose
// control characters, colons, percent signs and letters beyond ASCII are %XX
// (pve-container, PVE/LXC/Config.pm; pve-common, PVE/Tools.pm, encode_text).
func described(file string) string {
	var text strings.Builder
	for line := range strings.Lines(file) {
		if strings.HasPrefix(line, "[") { // a snapshot's
			break
		}
		said, is := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "#")
		if plain, err := url.PathUnescape(said); is && err == nil {
			text.WriteString(plain + "\n")
		}
	}
	return text.String()
}

//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// dress writes into the container what Proxmox writes there before every start
// (PVE::LXC::Setup::Debian, pre_start_hook): host name, resolver, network. Its
// file system is as hostile as what ran in it: a link leads nowhere but inside.
func (m *Machine) dress(l pve.Launch, rootfs string) error {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return err
	}
	defer root.Close()
	if !isFolder(root, "etc") {
		return nil
	}
	server := l.Options["nameserver"]
	if server == "" {
		server = Gateway
	}
	name := l.Options["hostname"]
	files := map[string]string{
		"etc/hostname":    name + "\n",
		"etc/hosts":       fmt.Sprintf("127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 %s\n", name),
		"etc/resolv.conf": fmt.Sprintf("# --- BEGIN PVE ---\nnameserver %s\n# --- END PVE ---\n", server),
	}
	if isFolder(root, "etc/network") {
		files["etc/network/interfaces"] = interfaces(l)
	}
	owner := 0
	if l.Options["unprivileged"] == "1" {
		owner = firstID
	}
	for name, text := range files {
		if err := replace(root, name, text, owner); err != nil {
			return err
		}
	}
	return nil
}

func isFolder(root *os.Root, name string) bool {
	f, err := root.Lstat(name)
	return err == nil && f.IsDir()
}

// replace puts a file in the place of whatever is there.
func replace(root *os.Root, name, text string, owner int) error {
	part := name + ".dress"
	if err := root.RemoveAll(part); err != nil {
		return err
	}
	f, err := root.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Chown(owner, owner), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return root.Rename(part, name)
}

// interfaces is /etc/network/interfaces as Proxmox writes it.
func interfaces(l pve.Launch) string {
	var b strings.Builder
	b.WriteString("auto lo\niface lo inet loopback\n")
	for i := range 8 {
		s := l.Options[fmt.Sprintf("net%d", i)]
		if s == "" {
			continue
		}
		net := props(s)
		name := net["name"]
		fmt.Fprintf(&b, "\nauto %s\n", name)
		switch ip := net["ip"]; {
		case ip == "dhcp":
			fmt.Fprintf(&b, "iface %s inet dhcp\n", name)
		case strings.Contains(ip, "/"):
			fmt.Fprintf(&b, "iface %s inet static\n\taddress %s\n", name, ip)
			if net["gw"] != "" {
				fmt.Fprintf(&b, "\tgateway %s\n", net["gw"])
			}
		default:
			fmt.Fprintf(&b, "iface %s inet manual\n", name)
		}
		if net["ip6"] == "auto" || net["ip6"] == "dhcp" {
			fmt.Fprintf(&b, "iface %s inet6 %s\n", name, net["ip6"])
		}
	}
	return b.String()
}

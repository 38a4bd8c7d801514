//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// The sandbox's networks. Containers are on Bridge, or on a bridge of their
// VLAN's; the node's own address, with Proxmox's API, is on another network,
// which no container is meant to reach.
const (
	Bridge            = "vmbr0"
	Gateway           = "10.77.0.1" // of Bridge: what stands for GitHub listens here
	Management        = "vmbr1"
	managementAddress = "10.66.0.1"
)

// ManagementAddress is the node's own address.
const ManagementAddress = managementAddress

// network makes the bridges. Packets are not forwarded between them.
func network() error {
	if err := run("ip", "link", "set", "lo", "up"); err != nil {
		return err
	}
	if err := addBridge(Management, managementAddress); err != nil {
		return err
	}
	return addServedBridge(Bridge, Gateway)
}

// addBridge makes a bridge with an address of the node's. Its hardware address
// is set: else it is the lowest of its ports', and each container that came or
// went could take the gateway away from all others until they ask again.
func addBridge(name, address string) error {
	ip := netip.MustParseAddr(address).As4()
	for _, args := range [][]string{
		{"link", "add", name, "address", fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", ip[0], ip[1], ip[2], ip[3]), "type", "bridge"},
		{"address", "add", address + "/24", "dev", name},
		{"link", "set", name, "up"},
	} {
		if err := run("ip", args...); err != nil {
			return err
		}
	}
	return nil
}

func addServedBridge(name, address string) error {
	if err := addBridge(name, address); err != nil {
		return err
	}
	return serveAddresses(name, address)
}

// serveAddresses starts a DHCP and DNS server on a bridge. It knows no names.
func serveAddresses(bridge, address string) error {
	net := address[:strings.LastIndexByte(address, '.')]
	cmd := exec.Command("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--interface="+bridge, "--bind-interfaces",
		"--except-interface=lo", "--no-hosts", "--no-resolv", "--no-ping", "--dhcp-authoritative", "--dhcp-rapid-commit",
		"--dhcp-leasefile="+filepath.Join(runDir, bridge+".leases"), "--pid-file=",
		fmt.Sprintf("--dhcp-range=%s.20,%s.250,1h", net, net), "--log-facility="+filepath.Join(logDir, bridge+".dnsmasq"))
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start dnsmasq on %s: %w", bridge, err)
	}
	return nil
}

// bridges are made when the first container needs them, as Proxmox does with
// those of a VLAN on a bridge that knows none.
var bridges sync.Mutex

// bridgeOf is the bridge of a network device: that of its VLAN, if it has one.
func bridgeOf(bridge, tag string) (string, error) {
	name := bridge
	if tag != "" {
		name += "v" + tag
	}
	bridges.Lock()
	defer bridges.Unlock()
	if _, err := os.Stat("/sys/class/net/" + name); err == nil {
		return name, nil
	}
	if tag == "" {
		return "", fmt.Errorf("bridge '%s' does not exist", name)
	}
	var vlan int
	if _, err := fmt.Sscan(tag, &vlan); err != nil {
		return "", fmt.Errorf("VLAN %q: %w", tag, err)
	}
	return name, addServedBridge(name, fmt.Sprintf("10.%d.%d.1", 100+vlan>>8, vlan&255))
}

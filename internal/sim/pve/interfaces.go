package pve

import (
	"fmt"
	"strings"
)

type ipAddress struct {
	Address string `json:"ip-address"`
	Prefix  string `json:"prefix"` // a string, as recorded
	Type    string `json:"ip-address-type"`
}

type netInterface struct {
	Name      string      `json:"name"`
	HWAddr    string      `json:"hwaddr"`
	Hardware  string      `json:"hardware-address"`
	Inet      string      `json:"inet,omitempty"`
	Inet6     string      `json:"inet6,omitempty"`
	Addresses []ipAddress `json:"ip-addresses"`
}

func (n *netInterface) add(addr, kind string) {
	a, p, _ := strings.Cut(addr, "/")
	n.Addresses = append(n.Addresses, ipAddress{a, p, kind})
	if kind == "inet" {
		n.Inet = addr
	} else {
		n.Inet6 = addr
	}
}

// interfaces are the container's network devices with their addresses; null
// when it does not run or is not there. A DHCP address is there some time
// after the start.
func interfaces(r *call) (any, error) {
	t := r.c.cts[r.vmid()]
	if t == nil || t.node != r.node.name || !t.running && !t.starts {
		return nil, nil
	}
	r.untilBooted(t)
	if !t.booted {
		return nil, nil
	}
	if r.c.machine != nil {
		return r.realInterfaces(t.vmid)
	}
	lo := &netInterface{Name: "lo", HWAddr: "00:00:00:00:00:00", Hardware: "00:00:00:00:00:00"}
	lo.add("127.0.0.1/8", "inet")
	for _, a := range t.own {
		lo.add(a, "inet")
	}
	lo.add("::1/128", "inet6")
	out := []*netInterface{lo}
	up := r.c.clock.Now().Sub(t.since)
	for _, key := range sortedKeys(t.conf.opts) {
		if !isNet(key) {
			continue
		}
		net := parseMount(t.conf.opts[key])
		mac := strings.ToLower(net["hwaddr"])
		n := &netInterface{Name: net["name"], HWAddr: mac, Hardware: mac, Addresses: []ipAddress{}}
		switch ip := net["ip"]; {
		case up < r.c.timing.Start/2: // the guest has not set its devices up
		case ip == "dhcp" && r.c.mute(t, net):
		case ip == "dhcp":
			n.add(fmt.Sprintf("10.10.%d.%d/16", t.vmid>>8&255, t.vmid&255), "inet")
		case strings.Contains(ip, "/"):
			n.add(ip, "inet")
		}
		if up >= r.c.timing.Start/2 && len(n.Addresses) > 0 {
			n.add(linkLocal(mac), "inet6")
		}
		out = append(out, n)
	}
	return out, nil
}

// mute reports whether the firewall keeps a container's device from getting an
// address: without its option dhcp, DHCP is like any other packet, and a policy
// is DROP unless it says otherwise (Firewall.pm, ruleset_create_vm_chain). That
// the datacenter's firewall is on is taken for granted. Believed.
func (c *Cluster) mute(t *ct, net map[string]string) bool {
	f := c.firewall[t.vmid]
	return net["firewall"] == "1" && f != nil && f.options["enable"] == "1" && f.options["dhcp"] != "1" &&
		(f.options["policy_in"] != "ACCEPT" || f.options["policy_out"] == "DROP" || f.options["policy_out"] == "REJECT")
}

// AddAddress is the guest of a container that runs giving its loopback
// interface one more address, "127.0.0.2/32".
func (c *Cluster) AddAddress(vmid int, address string) {
	c.enter()
	defer c.mu.Unlock()
	if t := c.cts[vmid]; t != nil && t.booted {
		t.own = append(t.own, address)
	}
}

// linkLocal is the address that an interface gives itself (EUI-64).
func linkLocal(mac string) string {
	var b [6]int
	fmt.Sscanf(mac, "%02x:%02x:%02x:%02x:%02x:%02x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5])
	return fmt.Sprintf("fe80::%x:%xff:fe%02x:%x/64", (b[0]^2)<<8|b[1], b[2], b[3], b[4]<<8|b[5])
}

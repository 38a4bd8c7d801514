package pools

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

type networkBlock struct {
	Bridge   *hcl.Attribute `hcl:"bridge,optional" type:"text" unset:"as in the template" example:"\"vmbr0\"" doc:"Bridge, or SDN virtual network."`
	VLAN     *hcl.Attribute `hcl:"vlan,optional" type:"number, 1 to 4094" unset:"untagged" example:"240" doc:"VLAN tag. Needs bridge."`
	Firewall *hcl.Attribute `hcl:"firewall,optional" type:"true or false" default:"true" example:"true" doc:"Proxmox VE's firewall on the interface. Applies where bridge is set."`
	Egress   *hcl.Attribute `hcl:"egress,optional" type:"\"all\", \"internet\" or \"none\"" default:"\"all\"" example:"\"internet\"" doc:"What containers may reach, by rules before those of the template's own firewall, which decides the rest: no private, link-local, shared or metadata address of IPv4 and IPv6 with internet, nothing with none; in either case what allow lists, DHCP and neighbour discovery. Name servers are often private: list them. Public addresses of the nodes themselves stay reachable with internet. The firewall is on for every interface then; it must be on in the datacenter, too, which dayfly may not see: a root half delivers no JIT config before there are rules for the interface, and 15 s must have passed since they were written; without a root half nothing but that time is certain."`
	Allow    *hcl.Attribute `hcl:"allow,optional" type:"list of 1 to 64 addresses or networks" unset:"nothing more" example:"[\"10.20.0.1:53/udp\", \"10.20.0.5:3128\", \"fd00:20::/64\"]" doc:"What may be reached besides, with a port (of TCP, unless /udp follows) or whole. Proxmox VE's firewall knows no host names. Has no effect with egress all."`
}

func (r *reader) network(b *networkBlock) (fleet.Network, fleet.Egress) {
	n := fleet.Network{
		Bridge:   r.text(b.Bridge, bridgeForm, "The name of a bridge, such as \"vmbr0\", of at most 15 characters,"),
		VLAN:     r.count(b.VLAN, 1, 4094),
		Firewall: r.flag(b.Firewall),
	}
	e := r.egress(b)
	if e.Policy != fleet.Everything && r.good(b.Firewall) && !n.Firewall {
		at := firstWritten(b.Firewall, b.Egress)
		r.report(problem(&at, "No firewall", "egress needs the firewall: remove firewall = false, or egress."))
	}
	if b.Bridge != nil {
		return n, e
	}
	if b.VLAN != nil {
		at := b.VLAN.Range
		r.report(problem(&at, "Missing bridge", "vlan needs bridge: Proxmox VE tags an interface where it is plugged in."))
	}
	if b.Firewall != nil && b.Firewall.Range.Filename != "" {
		at := b.Firewall.Range
		r.report(problem(&at, "Missing bridge", "firewall needs bridge: without one, the interface stays as in the template."))
	}
	return fleet.Network{}, e
}

// maxPeers bounds the requests that a clone's firewall takes.
const maxPeers = 64

func (r *reader) egress(b *networkBlock) fleet.Egress {
	e := fleet.Egress{}
	switch r.choice(b.Egress, "all", "internet", "none") {
	case "internet":
		e.Policy = fleet.Internet
	case "none":
		e.Policy = fleet.Nothing
	}
	seen := map[fleet.Peer]bool{}
	for _, it := range r.list(b.Allow, maxPeers, peerForm, peerText) {
		p, err := parsePeer(it.text)
		switch {
		case err != nil:
			r.refuse(b.Allow, it.at, "%s is expected, not %.80q: %s.", peerText, it.text, err)
		case seen[p]:
			r.refuse(b.Allow, it.at, "%s is in the list twice.", p)
		}
		seen[p] = true
		e.Allow = append(e.Allow, p)
	}
	if b.Allow != nil && r.good(b.Egress) && b.Egress.Range.Filename == "" {
		at := b.Allow.Range
		r.report(problem(&at, "Missing egress", "allow needs egress, \"internet\" or \"none\": everything is let out without it."))
	}
	if e.Policy == fleet.Everything {
		return fleet.Egress{}
	}
	return e
}

const peerText = `An address or network, such as "10.20.0.5:3128", "10.20.0.1:53/udp" or "fd00:20::/64",`

var (
	peerForm = regexp.MustCompile(`^[0-9A-Fa-f.:/\[\]]{2,50}(/tcp|/udp)?$`)
	portForm = regexp.MustCompile(`^(\[?)([0-9A-Fa-f:.]+(?:/[0-9]{1,3})?)(\]?):([0-9]{1,5})(?:/(tcp|udp))?$`)
)

// parsePeer reads "10.20.0.5", "10.20.0.0/24", each with ":PORT" or
// ":PORT/udp"; of IPv6 in brackets then.
func parsePeer(s string) (fleet.Peer, error) {
	var p fleet.Peer
	to := s
	m := portForm.FindStringSubmatch(s)
	if m != nil && (m[1] == "[") == (m[3] == "]") && strings.Contains(m[2], ":") == (m[1] == "[") {
		port, _ := strconv.Atoi(m[4]) // at most five digits
		if port < 1 || port > 65535 {
			return p, fmt.Errorf("port %d is not from 1 to 65535", port)
		}
		to, p.Port, p.Protocol = m[2], port, "tcp"
		if m[5] != "" {
			p.Protocol = m[5]
		}
	}
	net, err := netip.ParsePrefix(to)
	if addr, bad := netip.ParseAddr(to); bad == nil {
		net, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is no address or network", to)
	case net.Addr().Is4In6():
		return p, fmt.Errorf("%q is no address that a packet has", to)
	case net.Bits() == 0:
		return p, errors.New("that is everything")
	case net != net.Masked(): // Proxmox VE refuses it (Net::IP: Invalid prefix)
		return p, fmt.Errorf("the network is %s", net.Masked())
	}
	p.To = net.String()
	if net.IsSingleIP() {
		p.To = net.Addr().String()
	}
	return p, nil
}

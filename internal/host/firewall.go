//go:build linux

package host

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// shielded waits until the node's packet filter knows every interface that the
// firewall is to guard: pve-firewall compiles the rules of a new container up to
// 10 s after it was made (facts: PVE/Service/pve_firewall.pm), and until then
// nothing is between it and the network.
//
// Both of Proxmox's firewalls name the interface in what leads to a container's
// rules. The old one, in the iptables chain PVEFW-FWBR-OUT and by the chains
// veth20001i0-IN and -OUT (PVE/Firewall.pm, generate_tap_rules_direction);
// believed: the new one, in nftables, as an element of the maps vm-map-in and
// vm-map-out of the table proxmox-firewall-guests (proxmox-firewall,
// resources/proxmox-firewall.nft).
func (s *Server) shielded(ctx context.Context, id fleet.VMID, interfaces []string) error {
	for {
		missing, err := s.guarded(ctx, id, interfaces)
		if err != nil || missing == "" {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the firewall has no rules for %s: %w", missing, ErrUnshielded)
		case <-time.After(s.cfg.FirewallNap):
		}
	}
}

// unshielded names an interface that no rule names.
func (s *Server) unshielded(ctx context.Context, interfaces []string) (missing string, err error) {
	if len(interfaces) == 0 || len(s.cfg.Rules) == 0 {
		return "", nil
	}
	var problem error
	listed := false
	// The firewall that knew the last container is asked first.
	first := int(s.firewall.Load())
	for i := range s.cfg.Rules {
		which := (first + i) % len(s.cfg.Rules)
		rules, err := output(ctx, s.cfg.Rules[which])
		if err != nil {
			problem = err
			continue
		}
		listed = true
		if missing = unnamed(rules, interfaces); missing == "" {
			s.firewall.Store(int32(which))
			return "", nil
		}
	}
	if !listed {
		return "", fmt.Errorf("list the packet filter's rules: %w: %w", problem, fleet.ErrUnavailable)
	}
	return missing, nil
}

// unnamed is an interface that no rule names.
func unnamed(rules []byte, interfaces []string) string {
	for _, name := range interfaces {
		whole := regexp.MustCompile(`(^|[^0-9A-Za-z])` + regexp.QuoteMeta(name) + `([^0-9A-Za-z]|$)`)
		if !whole.Match(rules) {
			return name
		}
	}
	return ""
}

// maxRules bounds the rules of a node.
const maxRules = 32 << 20

// output runs a program of the node, found by its absolute path, with a fixed
// environment and no input.
func output(ctx context.Context, argv []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	cmd.WaitDelay = time.Second
	var out bounded
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", argv[0], err)
	}
	return out.text, nil
}

// bounded keeps the first maxRules bytes of what is written to it.
type bounded struct{ text []byte }

func (b *bounded) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), maxRules-len(b.text))]...)
	return len(p), nil
}

package proxmox

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// SmokeVariable in the environment of a container's init makes its guest run
// checks in place of a runner. Its value is GitHub's address.
const SmokeVariable = "DAYFLY_SMOKE"

// What a guest can say without a network, a credential or a root half is an
// address of its loopback interface: Proxmox lists those of every interface,
// asked on the host, to whoever has VM.Audit. 127.83.77.0 says that all checks
// passed, 127.83.77.N that those failed whose bits are set in N.
var smokeNet = netip.MustParsePrefix("127.83.77.0/24")

// smokeChecks are the bits of N.
var smokeChecks = []string{
	"Docker does not run a container", "Docker's storage driver is not the template's", "/dev/net/tun is missing or cannot be opened",
	"GitHub cannot be reached", "its clock is off", "the runner is not the template's, or does not run",
	"the checks themselves failed",
}

// SmokeResult is what a smoke boot has shown.
type SmokeResult struct {
	Done   bool
	Faults []string // none: it passed
}

// Smoke reads what a container's guest says of its smoke checks. One that is not
// done yet, or does not run, says nothing.
func (c *Client) Smoke(ctx context.Context, node string, id fleet.VMID) (SmokeResult, error) {
	var list []struct {
		Name text `json:"name"`
		Inet text `json:"inet"`
		All  []struct {
			Address text `json:"ip-address"`
		} `json:"ip-addresses"`
	}
	if err := c.get(ctx, container(node, id, "/interfaces"), nil, &list); err != nil {
		return SmokeResult{}, fmt.Errorf("ask smoke checks of container %d: %w", id, err)
	}
	var out SmokeResult
	for _, i := range list {
		if i.Name != "lo" {
			continue
		}
		out.read(string(i.Inet)) // the last address, all there was before PVE 9
		for _, a := range i.All {
			out.read(string(a.Address))
		}
	}
	return out, nil
}

func (r *SmokeResult) read(address string) {
	ip, err := netip.ParseAddr(address)
	if prefix, bad := netip.ParsePrefix(address); bad == nil {
		ip, err = prefix.Addr(), nil
	}
	if err != nil || !smokeNet.Contains(ip) || r.Done {
		return
	}
	r.Done = true
	bits := ip.As4()[3]
	for i, what := range smokeChecks {
		if bits&(1<<i) != 0 {
			r.Faults = append(r.Faults, what)
		}
	}
	if len(r.Faults) == 0 && bits != 0 {
		r.Faults = []string{fmt.Sprintf("check %d failed, which this dayfly does not know", bits)}
	}
}

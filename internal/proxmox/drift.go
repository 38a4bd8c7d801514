package proxmox

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Drift says how a container of ours is not as a clone for the pool is set, in
// words; empty: it is. What the pool leaves as in the template may be anything.
// A protection is not looked at: somebody wants to keep the container.
func (l Listing) Drift(id fleet.VMID, p fleet.Pool) string {
	have := l.Settings[id]
	if have == nil {
		return ""
	}
	changes := wantedFor(p, have.description()).changes(have)
	delete(changes, "protection")
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(changes)) {
		parts = append(parts, fmt.Sprintf("%s is %q, not %q", key, string(have[key]), fmt.Sprint(changes[key])))
	}
	if want := p.Size.DiskMiB; want > 0 && have.disk() > 0 && have.disk() != want {
		parts = append(parts, fmt.Sprintf("its disk has %d MiB, not %d", have.disk(), want))
	}
	if f, known := l.Walls[id]; known {
		if why := wallFor(p.Egress).differs(f); why != "" {
			parts = append(parts, why)
		}
	}
	return strings.Join(parts, "; ")
}

// Told reports whether the listing tells all that Drift compares of a container.
func (l Listing) Told(id fleet.VMID) bool {
	_, known := l.Walls[id]
	return known && l.Settings[id] != nil
}

// wantedFor is what a clone for a pool is set to.
func wantedFor(p fleet.Pool, description string) wanted {
	return wanted{
		size: p.Size, network: p.Network, guarded: p.Egress.Policy != fleet.Everything, description: description, tags: []string{"dayfly", "dayfly-pool-" + p.Name},
	}
}

package daemon

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// driftOf begins the troubles of containers that are not as their pool says.
const driftOf = "drift of "

// drifted notes how a container is not as its pool says. A spare is replaced
// for it (see fleet), one with a job is left until that ends: either the pool
// has changed since it was made, or somebody has changed the container, which
// is told. A new one that is so from the start is told and kept, for another
// one would be no better.
func (d *Daemon) drifted(s *state, r *runner, list proxmox.Listing, c proxmox.Container) {
	key := driftOf + r.Name
	p, ok := s.pool(r.Pool)
	drift := ""
	if ok && c.State != fleet.Creating {
		drift = list.Drift(c.VMID, p)
	}
	what := fmt.Sprintf("container %d on %s is not as pool %s says: %s", c.VMID, c.Node, r.Pool, drift)
	switch {
	case drift == "" && !list.Told(c.VMID): // whatever was known stays
	case drift == "":
		r.Drift, r.straight = "", list.AsOf
		d.fine(key)
	case r.straight.After(s.adopted):
		r.Drift = drift
		d.trouble(key, what, "change pools by a commit; it is replaced once no job needs it")
	case r.Created.Before(s.adopted):
		r.Drift = drift
	default:
		d.trouble(key, what, "it was made so: see what changes new containers on that node")
	}
}

// drift lists the containers, firewalls and templates that are not as git and
// the journal say, the oldest first.
func (s *state) drift() []Trouble {
	list := []Trouble{}
	for key, t := range s.troubles {
		if strings.HasPrefix(key, driftOf) || strings.HasPrefix(key, strayed) {
			list = append(list, t.Trouble)
		}
	}
	slices.SortFunc(list, func(a, b Trouble) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.What, b.What)) })
	return list
}

// outdate notes what a change of the pools leaves with settings of before, so
// that no job is given to it before a listing shows as much.
func (s *state) outdate(changes []fleet.Change) {
	for _, c := range changes {
		i := slices.IndexFunc(c.Fields, func(f fleet.Field) bool { return f.Takes == fleet.NewClones })
		if i < 0 {
			continue
		}
		for _, r := range s.runners {
			if r.Pool == c.Name && r.Drift == "" {
				r.Drift = fmt.Sprintf("%s is %q, not %q", c.Fields[i].Name, c.Fields[i].From, c.Fields[i].To)
			}
		}
	}
}

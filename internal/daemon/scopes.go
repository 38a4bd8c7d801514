package daemon

import (
	"slices"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// covers reports whether jobs of a repository may be ours. Until the first
// pools are read, everything with a good signature may.
func (d *Daemon) covers(repo string) bool {
	scopes := d.ours.Load()
	if scopes == nil {
		return true
	}
	return slices.ContainsFunc(*scopes, func(s fleet.Scope) bool { return s.Covers(repo) })
}

// publish makes the scopes of the pools known to the webhook's handler, which
// must not wait for the loop.
func (d *Daemon) publish(s *state) {
	scopes := make([]fleet.Scope, 0, len(s.desired.Pools))
	for _, p := range s.desired.Pools {
		if !slices.Contains(scopes, p.Scope) {
			scopes = append(scopes, p.Scope)
		}
	}
	d.ours.Store(&scopes)
}

package daemon

import (
	"context"
	"slices"
	"strings"

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

// publish makes the scopes of the pools, and of what is left of earlier ones,
// known to the webhook's handler, which must not wait for the loop. That is the
// allow-list: an installation is one account's, the owner in these scopes.
func (d *Daemon) publish(s *state) {
	scopes := s.scopes()
	d.ours.Store(&scopes)
}

// The troubles of the looks at a scope begin so.
const (
	registrationsOf = "registrations of "
	jobsOf          = "jobs of "
)

// watch has every scope of the pools, and of what is left of earlier ones,
// looked at, and no other.
func (d *Daemon) watch(ctx context.Context) {
	s := &d.state
	scopes := s.scopes()
	watched := func(name string) bool { return slices.Contains(scopes, fleet.Scope(name)) }
	for _, kind := range []struct {
		round *round
		look  func(context.Context, fleet.Scope) error
	}{{d.looks.registrations, d.lookAtRegistrations}, {d.looks.jobs, d.lookAtJobs}} {
		for _, scope := range scopes {
			if l, fresh := kind.round.add(string(scope)); fresh {
				d.work.Go(func() { l.run(ctx, func(ctx context.Context) error { return kind.look(ctx, scope) }) })
			}
		}
		for _, name := range kind.round.names() {
			if !watched(name) {
				kind.round.drop(name)
				delete(s.evidence, fleet.Scope(name))
			}
		}
	}
	for key := range s.troubles {
		name, found := strings.CutPrefix(key, registrationsOf)
		if !found {
			name, found = strings.CutPrefix(key, jobsOf)
		}
		if found && !watched(name) {
			d.fine(key)
		}
	}
}

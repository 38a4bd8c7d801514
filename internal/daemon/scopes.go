package daemon

import (
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

// lookedAt are the looks at a scope, as their troubles are named.
var lookedAt = []string{registrationsOf, jobsOf}

const (
	registrationsOf = "registrations of "
	jobsOf          = "jobs of "
)

// watched lists the scopes to look at, and ends the troubles of all others.
func (d *Daemon) watched(s *state) []fleet.Scope {
	scopes := s.scopes()
	for key := range s.troubles {
		for _, what := range lookedAt {
			scope, found := strings.CutPrefix(key, what)
			if found && !slices.Contains(scopes, fleet.Scope(scope)) {
				d.fine(key)
			}
		}
	}
	return scopes
}

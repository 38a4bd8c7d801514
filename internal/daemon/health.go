package daemon

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// lookAtHealth asks Proxmox and GitHub whether everything that a job will need
// is granted, so that a missing right is known before a job meets it.
func (d *Daemon) lookAtHealth(ctx context.Context) error {
	var pools []fleet.Pool
	var scopes []fleet.Scope
	var nodes []string
	err := d.ask(ctx, func(s *state) {
		pools, scopes = s.desired.Pools, s.scopes()
		nodes = slices.Sorted(maps.Keys(s.nodes))
	})
	if err != nil || len(pools) == 0 || len(nodes) == 0 {
		return err
	}
	bound, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	found := map[string]Trouble{}
	problems, err := d.cfg.Proxmox.Check(bound, pools, nodes)
	if err == nil {
		for _, p := range problems {
			if !p.Advice {
				found["check "+p.What] = Trouble{What: p.What, Hint: p.Command}
			}
		}
	}
	for _, scope := range scopes {
		for _, p := range d.cfg.GitHub.Check(bound, []fleet.Scope{scope}) {
			found["check "+p.String()] = Trouble{What: p.String(), Hint: p.Fix}
		}
	}
	if ctx.Err() == nil {
		d.inbox.post(func(s *state) { d.checked(s, found) })
	}
	return nil
}

// checked replaces the troubles of the last check by those of this one.
func (d *Daemon) checked(s *state, found map[string]Trouble) {
	for key := range s.troubles {
		if _, still := found[key]; !still && strings.HasPrefix(key, "check ") {
			d.fine(key)
		}
	}
	for key, t := range found {
		d.trouble(key, t.What, t.Hint)
	}
}

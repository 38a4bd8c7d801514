package daemon

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// healthBound bounds the check of one side.
const healthBound = time.Minute

// The troubles of each side's check begin so.
const (
	proxmoxCheck = "check proxmox: "
	githubCheck  = "check github: "
)

// checkup is what there is to check.
type checkup struct {
	pools  []fleet.Pool
	scopes []fleet.Scope
	nodes  []string // those that answer
}

func (s *state) checkup() checkup {
	c := checkup{pools: s.desired.Pools, scopes: s.scopes()}
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		if s.nodes[name].online() {
			c.nodes = append(c.nodes, name)
		}
	}
	return c
}

// lookAtHealth asks Proxmox and GitHub whether everything that a job will need
// is granted, so that a missing right is known before a job meets it. A check
// that could not be made changes nothing and is made again soon.
func (d *Daemon) lookAtHealth(ctx context.Context) error {
	c, err := ask(ctx, d, (*state).checkup)
	if err != nil || len(c.pools) == 0 {
		return err
	}
	began := time.Now()
	err = errors.Join(d.checkProxmox(ctx, c, began), d.checkGitHub(ctx, c, began))
	d.inbox.post(func(s *state) {
		if s.checked = began; s.amiss() {
			s.findings++
		} else {
			s.findings = 0
		}
	})
	return err
}

// recheck is when to check again after something was found amiss: soon, as a
// person may be about to mend it.
var recheck = fleet.Retry{Min: 15 * time.Second, Max: 2 * time.Minute}

// checkEvery is how often to check, every if all is well.
func (s *state) checkEvery(every time.Duration) time.Duration {
	if s.amiss() {
		return min(every, recheck.Delay(max(1, s.findings), 0))
	}
	return every
}

// nextCheck is when the next check after one that found something is due.
func (s *state) nextCheck() time.Time {
	return s.checked.Add(recheck.Delay(max(1, s.findings), 0))
}

// amiss reports whether something is not granted, as a check or Proxmox or
// GitHub itself has told.
func (s *state) amiss() bool {
	for key := range s.troubles {
		if isCheck(key) {
			return true
		}
	}
	for _, h := range s.holds {
		if h.denied {
			return true
		}
	}
	return false
}

func isCheck(key string) bool {
	return strings.HasPrefix(key, proxmoxCheck) || strings.HasPrefix(key, githubCheck)
}

func (d *Daemon) checkProxmox(ctx context.Context, c checkup, began time.Time) error {
	if len(c.nodes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, healthBound)
	defer cancel()
	problems, err := d.cfg.Proxmox.Check(ctx, c.pools, c.nodes)
	if err != nil {
		return err
	}
	found := map[string]Trouble{}
	for _, p := range problems {
		if !p.Advice {
			found[proxmoxCheck+p.What] = Trouble{What: p.What, Hint: p.Hint()}
		}
	}
	d.inbox.post(func(s *state) { d.checked(s, proxmoxCheck, began, found) })
	return nil
}

func (d *Daemon) checkGitHub(ctx context.Context, c checkup, began time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, healthBound)
	defer cancel()
	problems := d.cfg.GitHub.Check(ctx, c.scopes)
	asked := map[string]bool{}
	for _, p := range c.pools {
		if key := string(p.Scope) + "\x00" + p.Group; p.Group != "" && !p.Scope.Repo() && !asked[key] {
			asked[key] = true
			problems = append(problems, d.cfg.GitHub.CheckGroup(ctx, p.Scope, p.Group)...)
		}
	}
	for _, scope := range rerunScopes(c.pools) {
		problems = append(problems, d.cfg.GitHub.CheckRerun(ctx, scope)...)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, p := range problems {
		if away := d.githubAway(ctx, p.Err); away != nil {
			d.inbox.post(func(*state) { d.trouble(githubAway, away.Summary(), away.Fix) })
			return p.Err // the rest says nothing
		}
	}
	found := map[string]Trouble{}
	var errs []error
	for _, p := range problems {
		what := p.Summary()
		found[githubCheck+what] = Trouble{What: what, Hint: p.Fix}
		if errors.Is(p.Err, fleet.ErrUnavailable) {
			errs = append(errs, p.Err)
		}
	}
	d.inbox.post(func(s *state) { d.checked(s, githubCheck, began, found) })
	return errors.Join(errs...)
}

// rerunScopes are the scopes of pools whose lost jobs are run again.
func rerunScopes(pools []fleet.Pool) []fleet.Scope {
	var scopes []fleet.Scope
	for _, p := range pools {
		if p.Reruns > 0 && !slices.Contains(scopes, p.Scope) {
			scopes = append(scopes, p.Scope)
		}
	}
	return scopes
}

// checked replaces the troubles of a side's last check by those of this one.
func (d *Daemon) checked(s *state, side string, began time.Time, found map[string]Trouble) {
	if len(found) == 0 {
		s.granted(side, began, time.Now())
	}
	for _, key := range slices.Sorted(maps.Keys(s.troubles)) {
		if _, still := found[key]; !still && strings.HasPrefix(key, side) {
			d.fine(key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		d.trouble(key, found[key].What, found[key].Hint)
	}
}

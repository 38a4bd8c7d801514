package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// runnerVersion is what GitHub says of a version of actions/runner.
type runnerVersion struct {
	known bool // it is seen in a template
	asked time.Time
	ends  time.Time // when it gets no more jobs; zero: not announced
}

// versionEvery is how often GitHub is asked about each runner version.
const versionEvery = 6 * time.Hour

// outdated says why runners of a version get no jobs; empty: they do, as far as
// is known.
func (s *state) outdated(version string, now time.Time) string {
	v := s.versions[version]
	if v.ends.IsZero() || now.Before(v.ends) {
		return ""
	}
	return fmt.Sprintf("GitHub gives no jobs to runner %s since %s", version, v.ends.UTC().Format(time.DateOnly))
}

// stale lists the runner versions in templates about which GitHub should be
// asked, and a scope to ask for.
func (s *state) stale(now time.Time) (versions []string, scope fleet.Scope) {
	for _, p := range s.desired.Pools {
		scope = p.Scope
	}
	for _, n := range s.nodes {
		for _, t := range n.templates {
			if t.Runner != "" && now.Sub(s.versions[t.Runner].asked) >= versionEvery && !slices.Contains(versions, t.Runner) {
				versions = append(versions, t.Runner)
			}
		}
	}
	slices.Sort(versions)
	return versions, scope
}

// newVersions has GitHub asked about the runner versions of new templates.
func (d *Daemon) newVersions(o fleet.Observed) {
	s := &d.state
	for _, t := range o.Templates {
		if t.Runner != "" && !s.versions[t.Runner].known {
			s.versions[t.Runner] = runnerVersion{known: true}
			d.looks.versions.poke()
		}
	}
}

// lookAtVersions asks GitHub until when the runner versions in the templates
// get jobs. Servers that do not know the question are asked again like others.
func (d *Daemon) lookAtVersions(ctx context.Context) error {
	type question struct {
		versions []string
		scope    fleet.Scope
	}
	q, err := ask(ctx, d, func(s *state) question {
		versions, scope := s.stale(time.Now())
		return question{versions, scope}
	})
	if err != nil {
		return err
	}
	d.inbox.post(func(s *state) { d.age(s, time.Now()) }) // time alone makes them old
	if q.scope == "" {
		return nil
	}
	for _, version := range q.versions {
		bound, cancel := context.WithTimeout(ctx, healthBound)
		ends, err := d.cfg.GitHub.Deprecation(bound, q.scope, version)
		cancel()
		if err != nil && !errors.Is(err, fleet.ErrNotFound) && !errors.Is(err, fleet.ErrDenied) {
			return err
		}
		d.inbox.post(func(s *state) {
			s.versions[version] = runnerVersion{true, time.Now(), ends}
			d.age(s, time.Now())
		})
	}
	return nil
}

// templates lists the templates by node and VMID.
func (s *state) templates(o fleet.Observed) []TemplateStatus {
	list := make([]TemplateStatus, 0, len(o.Templates))
	for _, t := range o.Templates {
		list = append(list, TemplateStatus{
			Node: t.Node, VMID: int(t.VMID), Version: t.Ref.String(), Runner: t.Runner, Built: t.Built,
			Ends: s.versions[t.Runner].ends, Outdated: t.Outdated,
		})
	}
	slices.SortFunc(list, func(a, b TemplateStatus) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.VMID, b.VMID)) })
	return list
}

// soon is how long before its end a runner version is warned about.
const soon = 14 * 24 * time.Hour

// templateOf begins the troubles of templates that are too old.
const templateOf = "template of pool "

// age warns of the templates in use whose runner gets no jobs any more, or soon
// does not, and of those that are older than their pool allows.
func (d *Daemon) age(s *state, now time.Time) {
	for _, p := range s.desired.Pools {
		key := templateOf + p.Name
		what := s.aged(p, now)
		if what == "" {
			d.fine(key)
			continue
		}
		d.trouble(key, what, "bake a template with the newest runner: jobs wait for ever once GitHub gives them to this one no more")
	}
}

func (s *state) aged(p fleet.Pool, now time.Time) string {
	roll := s.rollout(p.Name)
	ref := roll.Stable
	if fleet.Smoking < roll.Stage && roll.Stage < fleet.Paused {
		ref = roll.Candidate // a pool without jobs may be on its way to it for long
	}
	for _, n := range s.nodes {
		for _, t := range n.templates {
			if t.Ref != ref {
				continue
			}
			ends := s.versions[t.Runner].ends
			switch {
			case s.outdated(t.Runner, now) != "":
				return fmt.Sprintf("pool %s: template %s: %s", p.Name, ref, s.outdated(t.Runner, now))
			case !ends.IsZero() && now.Add(soon).After(ends):
				return fmt.Sprintf("pool %s: template %s has runner %s, which GitHub gives no jobs from %s on",
					p.Name, ref, t.Runner, ends.UTC().Format(time.DateOnly))
			case p.MaxAge > 0 && !t.Built.IsZero() && now.Sub(t.Built) > p.MaxAge:
				return fmt.Sprintf("pool %s: template %s is %d days old, more than %d", p.Name, ref,
					int(now.Sub(t.Built).Hours()/24), int(p.MaxAge.Hours()/24))
			}
		}
	}
	return ""
}

package daemon

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
	"github.com/dayfly-ci/dayfly/internal/pools"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// state is everything the loop knows. Only the loop touches it.
type state struct {
	desired fleet.Desired
	inForce pools.Set // the pools in force, as they were read
	read    string    // revision read last, in force or refused
	refused string    // why a newer revision of the pools is not in force
	adopted time.Time // when the pools in force came into force

	runners   map[string]*runner // by name; changed by add and drop only
	ordered   []*runner          // the same, sorted; nil: to be made anew
	laid      []fleet.Runner     // what observed laid out last
	nodes     map[string]*node
	broken    map[string]broken // nodes that were left alone before the start and are not listed yet
	evidence  map[fleet.Scope]fleet.Evidence
	cooling   map[fleet.VMID]time.Time // when a VMID was last in use
	cursor    fleet.VMID               // the VMID taken last
	asked     map[run]asked            // of where jobs come from
	refusals  map[run]bool             // told beside their commits
	told      map[string]error         // what became of each kind of report
	holds     map[subject]hold
	rollouts  []fleet.Rollout
	versions  map[string]runnerVersion // of actions/runner, in templates
	born      map[string]birth         // of templates, by node and VMID
	losses    []fleet.Loss             // jobs that infrastructure lost, the oldest first
	rerunning bool                     // a run with lost jobs is being looked after
	troubles  map[string]trouble
	checked   time.Time // when the last health check began
	findings  int       // health checks in a row after which something is not granted
}

// runner is a fleet.Runner and what the daemon needs to keep it up to date.
type runner struct {
	fleet.Runner
	touched  time.Time // what was listed before is older than what we did
	straight time.Time // when it was last seen to be as its pool says
	attempts int       // failed actions in a row
	gone     time.Time // since when nothing of it is seen
	free     bool      // its VMID is seen to be free

	destroyed bool // its destroy task ended well: nothing is left on its VMID
	dud       bool // it counts as a failed launch of its pool
	hushed    bool // that GitHub hears nothing of it was told
	absent    bool // it counts as ended because a listing left it out
}

func newState() state {
	return state{
		desired: fleet.Desired{Unread: true},
		asked:   map[run]asked{}, told: map[string]error{},
		runners: map[string]*runner{}, nodes: map[string]*node{}, broken: map[string]broken{},
		evidence: map[fleet.Scope]fleet.Evidence{}, cooling: map[fleet.VMID]time.Time{},
		holds: map[subject]hold{}, troubles: map[string]trouble{}, versions: map[string]runnerVersion{}, born: map[string]birth{},
	}
}

// observed lays out the state for the plan. The runners are good until the next
// call: there is one at every turn of the loop, and after a busy minute they
// are hundreds.
func (d *Daemon) observed() fleet.Observed {
	s := &d.state
	o := fleet.Observed{Jobs: d.cfg.Journal.OpenJobs(), Evidence: s.evidence, Rollouts: s.rollouts, Partial: len(s.nodes) == 0}
	s.laid = s.laid[:0]
	for _, r := range s.inOrder() {
		s.laid = append(s.laid, r.Runner)
	}
	o.Runners = s.laid
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		n := s.nodes[name]
		if n.listed.IsZero() {
			o.Partial = o.Partial || n.up
			continue // nobody knows what is on it
		}
		total := n.total
		total.Cores = cmp.Or(total.Cores, d.halves.cores(name)) // Proxmox tells only who has Sys.Audit
		o.Nodes = append(o.Nodes, fleet.Node{
			Name: name, Online: n.observed(), Down: !n.up, Host: d.halves.on(name) != nil, Away: d.halves.away(name, d.started),
			Lone:  d.halves.lone(name, len(d.cfg.Hosts)),
			Frail: n.trips >= tripsMost, Blind: n.blind, Total: total, Used: n.used, Stores: n.known(time.Now()),
		})
		for _, t := range n.templates {
			t.Outdated = cmp.Or(t.Outdated, s.outdated(t.Runner, time.Now()))
			t.Locked = t.Locked && !n.released[t.VMID].After(n.listed)
			o.Templates = append(o.Templates, t)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(s.holds), subject.compare) {
		o.Holds = append(o.Holds, s.holds[key].Hold)
	}
	return o
}

// inOrder lists the runners by name, so that what is done with them is done in
// the same order in each run. The list must not be changed.
func (s *state) inOrder() []*runner {
	if s.ordered == nil {
		s.ordered = slices.SortedFunc(maps.Values(s.runners), func(a, b *runner) int { return strings.Compare(a.Name, b.Name) })
	}
	return s.ordered
}

func (s *state) add(r *runner) { s.runners[r.Name], s.ordered = r, nil }

func (s *state) drop(r *runner) {
	delete(s.runners, r.Name)
	s.ordered = nil
}

// bindJobs tells the runners what is known of their jobs: GitHub gives a job
// to any runner that fits, so the pairing is only ever observed.
func (d *Daemon) bindJobs(now time.Time) {
	s := &d.state
	running := map[fleet.JobID]bool{}
	for _, j := range d.cfg.Journal.OpenJobs() {
		if j.Status == fleet.InProgress {
			running[j.ID] = true
			d.took(j, now)
		}
	}
	for _, r := range s.inOrder() {
		if r.Job != 0 && r.Ended.IsZero() && !running[r.Job] {
			d.ended(r, now)
		}
	}
}

// took notes that one of our runners has a job.
func (d *Daemon) took(j fleet.Job, now time.Time) {
	r := d.state.runners[j.Runner]
	if r == nil || r.Job == j.ID {
		return
	}
	r.Took, r.Job = now, j.ID
	if !d.listened(r, now, "seen by its job") { // between two listings: at the latest when it took the job
		d.listens(r)
		d.later.Save(r.Runner)
	}
	d.stranger(r, j)
}

// ended notes that a runner's job is over. GitHub removes the registration of
// a JIT runner with its job; a listing shows if it did not.
func (d *Daemon) ended(r *runner, now time.Time) {
	r.Ended = now
	r.Registration, r.RegistrationID = fleet.Unregistered, 0
	d.later.Save(r.Runner)
	d.looks.containers.poke(r.Node)
}

// forget drops the runners of which nothing is left, and returns how many there
// are.
func (d *Daemon) forget(now time.Time) int {
	s := &d.state
	for _, r := range s.inOrder() {
		if !r.Forgettable(s.evidence[r.Scope]) {
			r.gone, r.free = time.Time{}, false
			continue
		}
		if r.gone.IsZero() {
			r.gone = now
		}
		if r.doubtful() {
			continue // see lookAtLeftovers
		}
		s.drop(r)
		if r.VMID != 0 {
			s.cooling[r.VMID] = now
		}
		d.fine("runner " + r.Name)
		d.fine(strangerOn + r.Name)
		d.fine(driftOf + r.Name)
		d.later.Forget(r.Name, now, end(r)...)
	}
	s.forgetHolds(now)
	return len(s.runners)
}

// end is the event of a container that is gone, for the journal to have if no
// destroy of ours was seen to end: a crash cut it off, or somebody else did it.
func end(r *runner) []journal.Event {
	if r.Cloned.IsZero() {
		return nil
	}
	e := event(r.Runner, journal.Destroyed, "found gone")
	e.At = r.gone
	return []journal.Event{e}
}

// doubtful reports whether something that no listing shows may be left on the
// runner's VMID.
func (r *runner) doubtful() bool { return r.VMID != 0 && !r.free && !r.destroyed }

// save writes an observed fact about a runner. Losing it costs history only:
// Proxmox and GitHub are the record.
func (d *Daemon) save(r *runner, what journal.Stage, detail string) {
	d.log.Debug("observed", "runner", r.Name, "what", string(what), "detail", detail)
	d.later.Save(r.Runner, journal.Event{At: time.Now(), What: what, Runner: r.Name, Job: r.Job, Detail: detail})
}

// pickVMID takes the next free number of our range, the one longest unused
// last. A number is not used again at once: Proxmox's own books lag.
func (s *state) pickVMID(first, last fleet.VMID, now time.Time, cool time.Duration) (fleet.VMID, bool) {
	maps.DeleteFunc(s.cooling, func(_ fleet.VMID, at time.Time) bool { return now.Sub(at) >= cool })
	size := last - first + 1
	s.cursor = max(s.cursor, first-1)
	for i := range size {
		id := first + (s.cursor-first+1+i)%size
		if !s.uses(id) {
			s.cursor = id
			return id, true
		}
	}
	return 0, false
}

// uses reports whether a VMID is known to be taken, or was not long ago.
func (s *state) uses(id fleet.VMID) bool {
	if _, cooling := s.cooling[id]; cooling {
		return true
	}
	for _, n := range s.nodes {
		if slices.ContainsFunc(n.foreign, func(f proxmox.Foreign) bool { return f.VMID == id }) ||
			slices.ContainsFunc(n.templates, func(t fleet.Template) bool { return t.VMID == id }) {
			return true
		}
	}
	return slices.ContainsFunc(s.inOrder(), func(r *runner) bool { return r.VMID == id })
}

func (s *state) pool(name string) (fleet.Pool, bool) {
	for _, p := range s.desired.Pools {
		if p.Name == name {
			return p, true
		}
	}
	return fleet.Pool{}, false
}

// scopes lists the scopes of the desired pools and of what is left of others.
func (s *state) scopes() []fleet.Scope {
	set := map[fleet.Scope]bool{}
	for _, p := range s.desired.Pools {
		set[p.Scope] = true
	}
	for _, r := range s.runners {
		if r.Scope != "" {
			set[r.Scope] = true
		}
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b fleet.Scope) int { return strings.Compare(string(a), string(b)) })
}

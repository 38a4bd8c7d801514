package hub

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// RunnerID is a registration's id.
type RunnerID int64

// Scope is where runners register: an organisation (acme) or a repository
// (acme/app).
type Scope string

// scope is the one a call's path names.
func (c *call) scope() Scope {
	if c.repo != nil {
		return Scope(c.repo.full)
	}
	return Scope(c.org.login)
}

// registration is GitHub's record of a self-hosted runner.
type registration struct {
	id      RunnerID
	name    string
	scope   Scope
	repo    *repository // nil for an organisation's
	owner   *account
	group   *group
	labels  []string        // exactly as sent: nothing is added to a JIT runner's
	has     map[string]bool // lower-cased
	config  string
	minted  time.Time
	version string // of the runner; empty until it connects

	session  *Session
	used     bool // the config was used to connect
	online   bool
	job      *job // assigned or running
	lying    bool // REST denies that it is busy
	lastRan  JobID
	removed  time.Time
	removal  string
	stale    *stage.Entry
	unwanted *stage.Entry
}

// staleAfter is when GitHub removes an ephemeral registration that is not
// connected (docs).
const staleAfter = 24 * time.Hour

func (h *Hub) register(c *call, name string, g *group, labels []string, workFolder string) *registration {
	r := &registration{
		id: RunnerID(len(h.registrations) + 1), name: name, scope: c.scope(), repo: c.repo, owner: c.org,
		group: g, labels: labels, has: map[string]bool{}, minted: h.clock.Now(),
	}
	if c.repo != nil {
		r.owner = c.repo.owner
	}
	for _, l := range labels {
		r.has[strings.ToLower(l)] = true
	}
	r.config = h.encodeJIT(r, workFolder)
	h.secrets = append(h.secrets, r.config)
	h.registrations = append(h.registrations, r)
	h.live[r.id] = r
	h.configs[r.config] = r
	h.awaitStale(r)
	h.note(Registered, r, nil, "")
	return r
}

// awaitStale removes an offline registration a day from now.
func (h *Hub) awaitStale(r *registration) {
	r.stale = h.in(staleAfter, func() {
		if !r.online {
			h.remove(r, "offline for a day")
		}
	})
}

// remove ends a registration. A listening runner is told; a job that it runs
// goes on (believed: the broker knows the job, not the registration).
func (h *Hub) remove(r *registration, why string) {
	if !r.removed.IsZero() {
		return
	}
	r.removed, r.removal = h.clock.Now(), why
	delete(h.live, r.id)
	h.retire(r)
	r.stale.Stop()
	r.unwanted.Stop()
	h.note(Removed, r, nil, why)
	if s := r.session; s != nil && r.job == nil {
		h.endSession(s, ErrGone)
	}
}

// retire takes the registration off the list of those that get jobs.
func (h *Hub) retire(r *registration) {
	h.idle = slices.DeleteFunc(h.idle, func(x *registration) bool { return x == r })
}

// runnerJSON is the runner schema of GitHub's description.
type runnerJSON struct {
	ID        RunnerID    `json:"id"`
	Name      string      `json:"name"`
	OS        string      `json:"os"`
	Status    string      `json:"status"`
	Busy      bool        `json:"busy"`
	Ephemeral bool        `json:"ephemeral"`
	Version   *string     `json:"version"`
	Group     GroupID     `json:"runner_group_id"`
	Labels    []labelJSON `json:"labels"`
}

type labelJSON struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
	Type string `json:"type"`
}

// busy is what REST says. It is true from the assignment on (believed), and
// may lie: github.com/actions/runner/issues/4422.
func (r *registration) busy() bool { return r.job != nil && !r.lying }

func (r *registration) json() runnerJSON {
	j := runnerJSON{
		ID: r.id, Name: r.name, OS: "unknown", Status: "offline", Busy: r.busy(), Ephemeral: true,
		Group: r.group.id, Labels: []labelJSON{},
	}
	if r.online {
		j.Status = "online"
	}
	if r.version != "" {
		j.OS, j.Version = "linux", &r.version
	}
	for i, l := range r.labels {
		j.Labels = append(j.Labels, labelJSON{ID: int64(r.id)*100 + int64(i), Name: l, Type: "custom"})
	}
	return j
}

// inScope is the scope's live registrations, by id.
func (h *Hub) inScope(scope Scope) []*registration {
	var list []*registration
	for _, r := range h.live {
		if r.scope == scope {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b *registration) int { return int(a.id - b.id) })
	return list
}

// asOf is the scope's registrations as they were at that time, by id.
func (h *Hub) asOf(at time.Time, scope Scope) []*registration {
	var list []*registration
	for _, r := range h.registrations {
		if r.scope == scope && !r.minted.After(at) && (r.removed.IsZero() || r.removed.After(at)) {
			list = append(list, r)
		}
	}
	return list
}

// staleBy is how old a stale list is (believed).
const staleBy = 5 * time.Second

// listRunners is GET …/actions/runners, and a runner group's runners. GitHub
// reads from replicas: a list may be some seconds old.
func (h *Hub) listRunners(c *call) answer {
	list := h.inScope(c.scope())
	if h.chance(h.habits.StaleLists) {
		list = h.asOf(h.clock.Now().Add(-staleBy), c.scope())
	}
	if c.r.PathValue("runner_group_id") != "" {
		id := GroupID(pathID(c.r, "runner_group_id"))
		if c.org.group(id) == nil {
			return notFound()
		}
		list = slices.DeleteFunc(list, func(r *registration) bool { return r.group.id != id })
	} else if q := c.r.URL.Query(); q.Has("name") {
		// An exact match (OpenAPI description).
		list = slices.DeleteFunc(list, func(r *registration) bool { return r.name != q.Get("name") })
	}
	p := paginate(c.r.URL.Query(), len(list))
	runners := []runnerJSON{}
	for _, r := range list[p.from:p.to] {
		runners = append(runners, r.json())
	}
	return ok(map[string]any{"total_count": len(list), "runners": runners}).paged(p, c.r)
}

func (h *Hub) registrationOf(c *call) *registration {
	r := h.live[RunnerID(pathID(c.r, "runner_id"))]
	if r == nil || r.scope != c.scope() {
		return nil
	}
	return r
}

// showRunner is GET …/actions/runners/{runner_id}.
func (h *Hub) showRunner(c *call) answer {
	if r := h.registrationOf(c); r != nil {
		return ok(r.json())
	}
	return notFound()
}

// deleteRunner is DELETE …/actions/runners/{runner_id}: 422 while it runs a
// job. While busy lies, it succeeds during a job as well
// (github.com/github-aws-runners/terraform-aws-github-runner/issues/5085).
func (h *Hub) deleteRunner(c *call) answer {
	r := h.registrationOf(c)
	if r == nil {
		return notFound()
	}
	if r.busy() {
		return invalid("Bad request - Runner \"%s\" is currently running a job and cannot be deleted.", r.name)
	}
	h.remove(r, "deleted by API")
	return answer{code: http.StatusNoContent}
}

// Registration is what a test may know of a registration.
type Registration struct {
	ID      RunnerID
	Name    string
	Scope   Scope
	Labels  []string
	Group   GroupID
	Version string
	Online  bool
	Busy    bool      // truly: a job is assigned to it or runs on it
	Job     JobID     // that job, or the last one it ran
	Used    bool      // its JIT config was used
	Minted  time.Time // when it was registered
	Removed time.Time // zero while it exists
	Removal string    // why it is gone
}

func (r *registration) public() Registration {
	p := Registration{
		ID: r.id, Name: r.name, Scope: r.scope, Labels: slices.Clone(r.labels), Group: r.group.id,
		Version: r.version, Online: r.online, Busy: r.job != nil, Job: r.lastRan, Used: r.used,
		Minted: r.minted, Removed: r.removed, Removal: r.removal,
	}
	if r.job != nil {
		p.Job = r.job.id
	}
	return p
}

// Runners is the scope's live registrations, by id; an empty scope means all.
func (h *Hub) Runners(scope Scope) []Registration {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []Registration{}
	for _, r := range h.registrations {
		if r.removed.IsZero() && (scope == "" || r.scope == scope) {
			list = append(list, r.public())
		}
	}
	return list
}

// Registrations is every registration there ever was, by id.
func (h *Hub) Registrations() []Registration {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]Registration, len(h.registrations))
	for i, r := range h.registrations {
		list[i] = r.public()
	}
	return list
}

// JITMinted is how many JIT configs were made so far.
func (h *Hub) JITMinted() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.registrations)
}

// Mint registers a runner and returns its JIT config, with no request made.
func (h *Hub) Mint(scope Scope, name string, labels ...string) string {
	h.enter()
	defer h.leave()
	return h.enrol(scope, name, labels).config
}

// AddOffline registers a runner that is not ours and never connects, as a
// person's forgotten machine.
func (h *Hub) AddOffline(scope Scope, name string, labels ...string) RunnerID {
	h.enter()
	defer h.leave()
	return h.enrol(scope, name, labels).id
}

func (h *Hub) enrol(scope Scope, name string, labels []string) *registration {
	c := &call{repo: h.repository(string(scope)), org: h.account(string(scope))}
	owner := c.org
	if c.repo != nil {
		owner = c.repo.owner
	}
	return h.register(c, name, owner.group(defaultGroup), labels, "")
}

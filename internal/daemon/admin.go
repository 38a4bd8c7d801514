package daemon

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
)

// Admin is the handler of the command line's questions. It must only be served
// where nobody but the operators reaches it: the Unix socket.
func (d *Daemon) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", answer(d.status))
	mux.HandleFunc("GET /v1/plan", answer(d.plan))
	mux.HandleFunc("GET /v1/jobs", answer(d.jobs))
	mux.HandleFunc("GET /v1/jobs/{id}", answer(d.job))
	mux.HandleFunc("GET /v1/events", answer(d.events))
	mux.HandleFunc("GET /v1/rollouts", answer(d.rolloutStatus))
	mux.HandleFunc("GET /v1/rollouts/history", answer(d.rolloutHistory))
	mux.HandleFunc("POST /v1/rollouts/{pool}/{order}", answer(d.order))
	mux.HandleFunc("POST /v1/preview", answer(d.preview))
	mux.HandleFunc("POST /v1/sync", answer(d.sync))
	return mux
}

var errBadRequest = errors.New("bad request")

// answer makes a handler of a question.
func answer[T any](f func(*http.Request) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		switch {
		case errors.Is(err, fleet.ErrNotFound):
			http.Error(w, err.Error(), http.StatusNotFound)
		case errors.Is(err, fleet.ErrOrder):
			http.Error(w, err.Error(), http.StatusConflict)
		case errors.Is(err, errBadRequest):
			http.Error(w, err.Error(), http.StatusBadRequest)
		case errors.Is(err, ErrStopped):
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v)
		}
	}
}

func (d *Daemon) sync(*http.Request) (struct{}, error) {
	d.inbox.post(func(s *state) { s.retryNow(time.Now()) })
	d.looks.all()
	return struct{}{}, nil
}

func (d *Daemon) status(r *http.Request) (Status, error) {
	return ask(r.Context(), d, d.snapshot)
}

// snapshot describes the state.
func (d *Daemon) snapshot(s *state) Status {
	o := d.observed()
	out := Status{
		Version: d.cfg.Version, Started: d.started, Revision: s.inForce.Revision, Refused: s.refused,
		Delivery: d.ways(s), Troubles: s.troubled(time.Now()),
		Pools: []PoolStatus{}, Runners: []RunnerStatus{}, Nodes: []NodeStatus{}, Foreign: []ForeignStatus{}, Unused: []ForeignStatus{}, Reports: s.reports(),
		Templates: s.templates(o),
	}
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		n := NodeStatus{Name: name, Online: s.nodes[name].observed(), Delivery: d.way(name), Stores: []StoreStatus{}}
		for _, st := range s.nodes[name].known(time.Now()) {
			n.Stores = append(n.Stores, StoreStatus(st))
		}
		out.Nodes = append(out.Nodes, n)
	}
	byPool := map[string]map[string]int{}
	for _, p := range s.desired.Pools {
		byPool[p.Name] = map[string]int{}
	}
	for _, r := range o.Runners {
		phase := r.Phase()
		if phase == fleet.Gone {
			continue
		}
		if byPool[r.Pool] == nil {
			byPool[r.Pool] = map[string]int{}
		}
		byPool[r.Pool][phase.String()]++
		out.Runners = append(out.Runners, runnerStatus(r, phase))
	}
	for _, p := range s.desired.Pools {
		out.Pools = append(out.Pools, poolStatus(p, byPool[p.Name], o.Jobs))
	}
	for _, j := range o.Jobs {
		switch j.Status {
		case fleet.Queued:
			out.Queued++
		case fleet.InProgress:
			out.Running++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		for _, f := range s.nodes[name].foreign {
			out.Foreign = append(out.Foreign, ForeignStatus{Node: name, VMID: int(f.VMID), Name: f.Name, Why: f.Why})
		}
		for _, u := range s.nodes[name].unused {
			out.Unused = append(out.Unused, ForeignStatus{Node: name, VMID: int(u.VMID), Name: u.Name, Why: u.Why})
		}
	}
	return out
}

func poolStatus(p fleet.Pool, phases map[string]int, jobs []fleet.Job) PoolStatus {
	warm, _ := p.Warming(time.Now())
	out := PoolStatus{
		Name: p.Name, Scope: string(p.Scope), Labels: p.Labels, Template: p.Template.String(),
		Max: p.Max, Spare: p.Spare, Warm: warm, Drained: p.Drained, Phases: phases,
	}
	for i := range jobs {
		if j := &jobs[i]; j.Status == fleet.Queued && p.Takes(j) {
			out.Queued++
		}
	}
	return out
}

func runnerStatus(r fleet.Runner, phase fleet.Phase) RunnerStatus {
	out := RunnerStatus{
		Name: r.Name, Pool: r.Pool, Node: r.Node, VMID: int(r.VMID), Template: r.Template.String(),
		Phase: phase.String(), Container: r.Container.String(), Registration: r.Registration.String(),
		Job: int64(r.Job), Since: r.Created, Cause: r.Cause, Drift: r.Drift,
	}
	if r.Pending != fleet.None {
		out.Pending = r.Pending.String()
	}
	for _, t := range []time.Time{r.Cloned, r.Booted, r.Launched, r.Started, r.Listened, r.Took, r.Ended, r.Spent} {
		if t.After(out.Since) {
			out.Since = t
		}
	}
	return out
}

func (d *Daemon) plan(r *http.Request) (PlanStatus, error) {
	return ask(r.Context(), d, func(s *state) PlanStatus {
		o, now := d.observed(), time.Now()
		actions, next := fleet.Plan(s.desired, o, now)
		out := PlanStatus{At: now, Actions: []ActionPlan{}, Blocked: []BlockedPlan{}, Drift: s.drift(), Next: next}
		for _, a := range actions {
			out.Actions = append(out.Actions, actionPlan(a))
		}
		for _, b := range fleet.Blocked(s.desired, o, now) {
			out.Blocked = append(out.Blocked, BlockedPlan{Job: int64(b.Job.ID), Repo: b.Job.Repo, Reason: b.Reason})
		}
		return out
	})
}

func (d *Daemon) jobs(r *http.Request) ([]JobStatus, error) {
	q := r.URL.Query()
	query := journal.Query{Repo: q.Get("repo"), Limit: 50}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 10000 {
			return nil, errors.Join(errBadRequest, errors.New("limit is a number from 1 to 10000"))
		}
		query.Limit = n
	}
	if text := q.Get("status"); text != "" {
		status, ok := fleet.ParseStatus(text)
		if !ok {
			return nil, errors.Join(errBadRequest, errors.New("status is waiting, queued, in_progress or completed"))
		}
		query.Status = []fleet.Status{status}
	}
	jobs, err := d.cfg.Journal.Jobs(r.Context(), query)
	out := make([]JobStatus, 0, len(jobs))
	for _, j := range jobs {
		out = append(out, jobStatus(j))
	}
	return out, err
}

func jobStatus(j fleet.Job) JobStatus {
	return JobStatus{
		ID: int64(j.ID), Repo: j.Repo, Name: j.Name, Labels: append([]string{}, j.Labels...), Status: j.Status.String(), Conclusion: j.Conclusion,
		Runner: j.Runner, URL: j.URL, Created: j.Created, Started: j.Started, Ended: j.Ended,
	}
}

func (d *Daemon) job(r *http.Request) (JobDetail, error) {
	n, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return JobDetail{}, errors.Join(errBadRequest, err)
	}
	id := fleet.JobID(n)
	j, found, err := d.cfg.Journal.Job(r.Context(), id)
	if err != nil {
		return JobDetail{}, err
	}
	if !found {
		return JobDetail{}, fleet.ErrNotFound
	}
	out := JobDetail{JobStatus: jobStatus(j), Timeline: []Event{}}
	out.Explanation, err = ask(r.Context(), d, func(s *state) string {
		if j.Status == fleet.Completed {
			return s.fate(j)
		}
		return fleet.Explain(s.desired, d.observed(), time.Now(), id)
	})
	if err != nil {
		return out, err
	}
	events, err := d.cfg.Journal.Timeline(r.Context(), id)
	for _, e := range events {
		out.Timeline = append(out.Timeline, eventStatus(e))
	}
	return out, err
}

func eventStatus(e journal.Event) Event {
	return Event{ID: e.ID, At: e.At, What: string(e.What), Job: int64(e.Job), Runner: e.Runner, Detail: e.Detail}
}

func (d *Daemon) events(r *http.Request) ([]Event, error) {
	q := r.URL.Query()
	after, err := strconv.ParseInt(q.Get("after"), 10, 64)
	limit, err2 := strconv.Atoi(q.Get("limit"))
	if err != nil || err2 != nil || limit < 1 || limit > 10000 {
		return nil, errors.Join(errBadRequest, errors.New("after and limit are numbers, limit at most 10000"))
	}
	events, err := d.cfg.Journal.Events(r.Context(), after, limit)
	out := make([]Event, 0, len(events))
	for _, e := range events {
		out = append(out, eventStatus(e))
	}
	return out, err
}

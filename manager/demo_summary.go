package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// demoSummary is how the day went: what --json prints.
type demoSummary struct {
	Seed              uint64                 `json:"seed"`
	JobsQueued        int                    `json:"jobs_queued"`
	JobsServed        int                    `json:"jobs_served"`
	JobsCancelled     int                    `json:"jobs_cancelled"`
	Runners           int                    `json:"runners"`
	ContainersLeft    int                    `json:"containers_left"`
	RegistrationsLeft int                    `json:"registrations_left"`
	LiveJobsKilled    int                    `json:"live_jobs_killed"`
	RolledOut         int                    `json:"versions_rolled_out"`
	RolledBack        int                    `json:"versions_rolled_back"`
	CommitsRefused    int                    `json:"commits_refused"`
	Latency           map[string]percentiles `json:"latency_ms"`

	lost, pending int
	left          []string
	violations    []string
}

// percentiles are milliseconds.
type percentiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// good reports whether every job ended once, nothing is left, nothing live was
// killed and every other promise was kept.
func (s demoSummary) good() bool {
	return s.JobsServed+s.JobsCancelled == s.JobsQueued && s.ContainersLeft == 0 &&
		s.RegistrationsLeft == 0 && s.LiveJobsKilled == 0 && len(s.violations) == 0
}

// demoStages are the stages whose durations the summary shows, in order.
var demoStages = []struct{ name, from, to string }{
	{"queued_to_delivered", "queued", "delivered"},
	{"delivered_to_started", "delivered", "started"},
	{"started_to_running", "started", "running"},
	{"queued_to_running", "queued", "running"},
	{"done_to_destroyed", "done", "destroyed"},
	{"restart_to_running", "restart", "running"},
}

// summary asks the world what became of the jobs, and the daemon how long
// every stage took.
func (d *demo) summary(ctx context.Context) (demoSummary, error) {
	w := d.world.Summary()
	s := demoSummary{
		Seed: d.o.seed, JobsQueued: w.Jobs, JobsServed: w.Served, JobsCancelled: w.Cancelled, Runners: d.teller.mints,
		ContainersLeft: len(w.Left.Containers), RegistrationsLeft: len(w.Left.Registrations), LiveJobsKilled: w.Killed,
		Latency: map[string]percentiles{}, lost: w.Lost, pending: w.Pending, violations: w.Violations,
	}
	for _, id := range w.Left.Containers {
		c, _ := d.world.Proxmox.Container(id)
		s.left = append(s.left, fmt.Sprintf("container %d %s on %s, %s, lock %q", id, c.Config["hostname"], c.Node, c.Status, c.Lock))
	}
	for _, name := range w.Left.Registrations {
		s.left = append(s.left, "registration "+name)
	}
	if err := d.judgeRolls(ctx, &s); err != nil {
		return s, err
	}
	samples := map[string][]time.Duration{}
	jobs, err := d.admin.Jobs(ctx, "", "", 10000)
	if err != nil {
		return s, err
	}
	for _, j := range jobs {
		detail, err := d.admin.Job(ctx, fleet.JobID(j.ID))
		if err != nil {
			return s, err
		}
		if d.real() {
			if detail, err = d.whole(ctx, detail); err != nil {
				return s, err
			}
			s.violations = append(s.violations, gaps(detail)...)
		}
		d.stages(detail, samples)
	}
	for name, list := range samples {
		s.Latency[name] = quantiles(list)
	}
	return s, nil
}

// wholeLife is what the timeline of a job that was served must tell.
var wholeLife = []string{"queued", "delivered", "minted", "started", "listening", "running", "done", "destroyed"}

// whole gives the daemon time to write down the end of a container: it is gone
// before its record is there, and where a kill cut its destroy off, it is looked
// for first.
func (d *demo) whole(ctx context.Context, j daemon.JobDetail) (daemon.JobDetail, error) {
	for deadline := time.Now().Add(time.Minute); len(gaps(j)) > 0 && time.Now().Before(deadline); {
		if err := d.pause(ctx, 20*time.Millisecond); err != nil {
			return j, err
		}
		var err error
		if j, err = d.admin.Job(ctx, fleet.JobID(j.ID)); err != nil {
			return j, err
		}
	}
	return j, nil
}

// gaps are what a job's timeline does not tell.
func gaps(j daemon.JobDetail) []string {
	var missing []string
	for _, what := range wholeLife {
		if !slices.ContainsFunc(j.Timeline, func(e daemon.Event) bool { return e.What == what }) {
			missing = append(missing, fmt.Sprintf("the timeline of job %d lacks %q", j.ID, what))
		}
	}
	return missing
}

// stages adds the durations of one job's stages. GitHub tells its times in
// whole seconds, so the world is asked for them. A job that was queued when
// the daemon was killed shows how soon after its restart it ran.
func (d *demo) stages(j daemon.JobDetail, samples map[string][]time.Duration) {
	at := map[string]time.Time{}
	for _, e := range j.Timeline {
		if _, known := at[e.What]; !known || e.What == "destroyed" {
			at[e.What] = e.At
		}
	}
	truth, _ := d.world.GitHub.Job(hub.JobID(j.ID))
	at["queued"], at["running"], at["done"] = truth.Created, truth.Started, truth.Completed
	if at["queued"].Before(d.killed) && at["running"].After(d.killed) {
		at["restart"] = d.killed
	}
	for _, stage := range demoStages {
		from, to := at[stage.from], at[stage.to]
		if !from.IsZero() && !to.Before(from) {
			samples[stage.name] = append(samples[stage.name], to.Sub(from))
		}
	}
}

func quantiles(list []time.Duration) percentiles {
	slices.Sort(list)
	at := func(share float64) float64 {
		i := min(int(share*float64(len(list))), len(list)-1)
		return float64(list[i].Microseconds()) / 1000
	}
	return percentiles{P50: at(0.50), P99: at(0.99)}
}

func (d *demo) printSummary(s demoSummary) error {
	if d.p.json {
		return writeJSON(d.p.out, s)
	}
	fmt.Fprintln(d.p.out)
	counts := newTable("jobs", "served", "cancelled", "runners", "containers left", "registrations left", "live jobs killed")
	counts.row(strconv.Itoa(s.JobsQueued), strconv.Itoa(s.JobsServed), strconv.Itoa(s.JobsCancelled), strconv.Itoa(s.Runners),
		strconv.Itoa(s.ContainersLeft), strconv.Itoa(s.RegistrationsLeft), strconv.Itoa(s.LiveJobsKilled))
	if err := counts.write(d.p.out, d.teller.style); err != nil {
		return err
	}
	if s.CommitsRefused > 0 {
		fmt.Fprintln(d.p.out)
		changes := newTable("versions rolled out", "rolled back", "commits refused")
		changes.row(strconv.Itoa(s.RolledOut), strconv.Itoa(s.RolledBack), strconv.Itoa(s.CommitsRefused))
		if err := changes.write(d.p.out, d.teller.style); err != nil {
			return err
		}
	}
	fmt.Fprintln(d.p.out)
	stages := newTable("stage", "p50 ms", "p99 ms")
	for _, stage := range demoStages {
		if q, ok := s.Latency[stage.name]; ok {
			stages.row(stage.name, fmt.Sprintf("%.0f", q.P50), fmt.Sprintf("%.0f", q.P99))
		}
	}
	if err := stages.write(d.p.out, d.teller.style); err != nil {
		return err
	}
	for _, l := range s.left {
		fmt.Fprintf(d.p.out, "%s %s\n", d.teller.style.red("left:"), l)
	}
	for _, v := range s.violations {
		fmt.Fprintf(d.p.out, "%s %s\n", d.teller.style.red("broken promise:"), v)
	}
	if s.lost+s.pending > 0 {
		fmt.Fprintf(d.p.out, "%s %d jobs lost, %d not ended\n", d.teller.style.red("jobs:"), s.lost, s.pending)
	}
	return nil
}

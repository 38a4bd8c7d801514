package daemon

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// metrics are what /metrics shows. No label holds a name that comes from a
// job, so that nobody outside can make their number grow.
type metrics struct {
	registry   *prometheus.Registry
	actions    *prometheus.HistogramVec
	failures   *prometheus.CounterVec
	deliveries *prometheus.CounterVec
	starts     prometheus.Counter
	turns      *prometheus.CounterVec
}

func newMetrics(d *Daemon) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		actions: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dayfly_action_seconds", Help: "How long actions took, by kind and outcome.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2.5, 10),
		}, []string{"kind", "outcome"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dayfly_failures_total", Help: "Failed actions that hold a pool back, by kind and pool.",
		}, []string{"kind", "pool"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dayfly_deliveries_total", Help: "Webhook deliveries, by the status they were answered with.",
		}, []string{"code"}),
		starts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dayfly_starts_total", Help: "Container starts issued for a runner.",
		}),
	}
	m.turns = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dayfly_rollout_turns_total", Help: "Changes of a pool's roll-out, by the stage it came to.",
	}, []string{"pool", "stage"})
	m.registry.MustRegister(m.turns, m.actions, m.failures, m.deliveries, m.starts, census{d},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) action(a fleet.Action, took time.Duration, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	m.actions.WithLabelValues(a.Kind.String(), outcome).Observe(took.Seconds())
}

func (m *metrics) delivery(code int) { m.deliveries.WithLabelValues(strconv.Itoa(code)).Inc() }

func (m *metrics) issued() { m.starts.Inc() }

var (
	runnersDesc = prometheus.NewDesc("dayfly_runners", "Runners, by pool and phase.", []string{"pool", "phase"}, nil)
	jobsDesc    = prometheus.NewDesc("dayfly_jobs", "Open jobs, by status.", []string{"status"}, nil)
	oldestDesc  = prometheus.NewDesc("dayfly_oldest_queued_seconds", "Age of the oldest queued job that a pool may run.", nil, nil)
	troubleDesc = prometheus.NewDesc("dayfly_troubles", "Troubles that a person should see.", nil, nil)
	quotaDesc   = prometheus.NewDesc("dayfly_github_quota", "GitHub's quota last seen, by installation (0 is the App itself) and resource.", []string{"installation", "resource", "what"}, nil)
	commitDesc  = prometheus.NewDesc("dayfly_journal_commits_total", "Commits of the journal.", nil, nil)
	sizeDesc    = prometheus.NewDesc("dayfly_journal_bytes", "Size of the journal: its file and its write-ahead log.", nil, nil)
)

// census counts what there is when it is asked.
type census struct{ d *Daemon }

type tally struct {
	Status
	oldest time.Duration
}

// Describe implements prometheus.Collector.
func (census) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{runnersDesc, jobsDesc, oldestDesc, troubleDesc, quotaDesc, commitDesc, sizeDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c census) Collect(ch chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := ask(ctx, c.d, func(s *state) tally { return tally{c.d.snapshot(s), c.d.oldest(s, time.Now())} })
	if err != nil {
		ch <- prometheus.NewInvalidMetric(runnersDesc, err)
		return
	}
	for _, p := range s.Pools {
		for phase := fleet.Cloning; phase < fleet.Gone; phase++ {
			gauge(runnersDesc, float64(p.Phases[phase.String()]), p.Name, phase.String())
		}
	}
	gauge(jobsDesc, float64(s.Queued), fleet.Queued.String())
	gauge(jobsDesc, float64(s.Running), fleet.InProgress.String())
	gauge(troubleDesc, float64(len(s.Troubles)))
	gauge(oldestDesc, s.oldest.Seconds())
	for _, l := range c.d.cfg.GitHub.Limits() {
		installation := strconv.FormatInt(l.Installation, 10)
		gauge(quotaDesc, float64(l.Limit), installation, l.Resource, "limit")
		gauge(quotaDesc, float64(l.Remaining), installation, l.Resource, "remaining")
	}
	stats := c.d.cfg.Journal.Stats()
	ch <- prometheus.MustNewConstMetric(commitDesc, prometheus.CounterValue, float64(stats.Commits.Count))
	gauge(sizeDesc, float64(stats.Bytes+stats.LogBytes))
}

// oldest is how long the oldest queued job that a pool may run has waited.
func (d *Daemon) oldest(s *state, now time.Time) time.Duration {
	for _, j := range d.cfg.Journal.OpenJobs() {
		serves := func(p fleet.Pool) bool { return p.Takes(&j) }
		if j.Status == fleet.Queued && slices.ContainsFunc(s.desired.Pools, serves) {
			return now.Sub(j.Created)
		}
	}
	return 0
}

// Public is the handler of the listening address: deliveries, health, metrics.
func (d *Daemon) Public() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/webhook", d.Webhook())
	mux.HandleFunc("GET /healthz", d.healthz)
	mux.HandleFunc("GET /readyz", d.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.metrics.registry, promhttp.HandlerOpts{}))
	return mux
}

// healthz answers 200 while the loop turns.
func (d *Daemon) healthz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if d.Healthy(ctx) != nil {
		http.Error(w, "the loop does not turn", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// readyz answers 200 once jobs can be served: the journal can be written, pools
// are in force, a node is listed, and there is a template on it.
func (d *Daemon) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	why, err := ask(ctx, d, (*state).unready)
	if err != nil {
		why = "the loop does not turn"
	}
	if why != "" {
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

func (s *state) unready() string {
	if t, told := s.troubles[journalAway]; told {
		return t.What
	}
	if s.inForce.Revision == "" {
		return "no pools are in force yet"
	}
	listed := false
	for _, n := range s.nodes {
		if !n.observed() {
			continue
		}
		if len(n.templates) > 0 {
			return ""
		}
		listed = true
	}
	if listed {
		return "no node has a template that is ready"
	}
	return "no node has been listed yet"
}

// Healthy waits for the loop to turn once: the watchdog's question.
func (d *Daemon) Healthy(ctx context.Context) error {
	_, err := ask(ctx, d, func(*state) struct{} { return struct{}{} })
	return err
}

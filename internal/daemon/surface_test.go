package daemon_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// sign is the signature of a body, as GitHub writes it.
func sign(name string, h func() hash.Hash, secret, body string) string {
	mac := hmac.New(h, []byte(secret))
	mac.Write([]byte(body))
	return name + "=" + hex.EncodeToString(mac.Sum(nil))
}

// post delivers a body to the daemon's webhook.
func (p *play) post(body io.Reader, header map[string]string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/webhook", body)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	p.now.d.Public().ServeHTTP(w, r)
	return w
}

const queuedBody = `{"action":"queued","repository":{"full_name":"%s"},"installation":{"id":7},
	"workflow_job":{"id":77,"run_id":1,"status":"queued","labels":["linux"],"created_at":"2000-01-01T00:00:00Z"}}`

func TestWebhookRefusesWhatItMust(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		ours, theirs := fmt.Sprintf(queuedBody, "acme/app"), fmt.Sprintf(queuedBody, "globex/web")
		good := func(body string) map[string]string {
			return map[string]string{
				"X-Hub-Signature-256": sign("sha256", sha256.New, webhookSecret, body),
				"X-GitHub-Event":      "workflow_job", "X-GitHub-Delivery": "guid-1", "Content-Type": "application/json",
			}
		}
		with := func(body, key, value string) map[string]string {
			h := good(body)
			h[key] = value
			return h
		}
		huge := io.LimitReader(zeros{}, 25<<20+1)
		for name, tt := range map[string]struct {
			body   io.Reader
			header map[string]string
			want   int
		}{
			"no signature":       {strings.NewReader(ours), with(ours, "X-Hub-Signature-256", ""), http.StatusUnauthorized},
			"wrong signature":    {strings.NewReader(ours), good(theirs), http.StatusUnauthorized},
			"SHA-1 only":         {strings.NewReader(ours), with(ours, "X-Hub-Signature-256", sign("sha1", sha1.New, webhookSecret, ours)), http.StatusUnauthorized},
			"an empty secret's":  {strings.NewReader(ours), with(ours, "X-Hub-Signature-256", sign("sha256", sha256.New, "", ours)), http.StatusUnauthorized},
			"not JSON":           {strings.NewReader("{"), good("{"), http.StatusBadRequest},
			"no GUID":            {strings.NewReader(ours), with(ours, "X-GitHub-Delivery", ""), http.StatusBadRequest},
			"too large":          {huge, good(""), http.StatusRequestEntityTooLarge},
			"not ours":           {strings.NewReader(theirs), good(theirs), http.StatusAccepted},
			"an event we ignore": {strings.NewReader("{}"), map[string]string{"X-Hub-Signature-256": sign("sha256", sha256.New, webhookSecret, "{}"), "X-GitHub-Event": "star", "X-GitHub-Delivery": "guid-2"}, http.StatusAccepted},
		} {
			if w := p.post(tt.body, tt.header); w.Code != tt.want {
				p.t.Errorf("%s: answered %d %s, want %d", name, w.Code, w.Body, tt.want)
			}
		}
		if w := ask(p.now.d.Public(), http.MethodGet, "/webhook"); w.Code != http.StatusMethodNotAllowed {
			p.t.Errorf("GET is answered %d, want 405", w.Code)
		}
		if s := p.status(); s.Queued != 0 {
			p.t.Errorf("%d jobs were taken from what was refused or not ours", s.Queued)
		}
		for i, want := range []string{"accepted", "known already"} {
			if w := p.post(strings.NewReader(ours), good(ours)); w.Code != http.StatusAccepted || !strings.Contains(w.Body.String(), want) {
				p.t.Errorf("delivery %d: answered %d %s, want 202 %s", i+1, w.Code, w.Body, want)
			}
		}
		if s := p.status(); s.Queued != 1 {
			p.t.Errorf("%d jobs are queued after a good delivery, want 1", s.Queued)
		}
		// GitHub knows of no such job: the poll finds out.
		p.until(3*time.Minute, "the job counts no more", func() bool { return p.status().Queued == 0 })
		p.gone(15 * time.Minute)
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestDeliveryThatCannotBeStoredIsRefused closes the journal under the daemon:
// GitHub must see a failure, for only that is delivered again.
func TestDeliveryThatCannotBeStoredIsRefused(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		if err := p.now.journal.Close(); err != nil {
			p.t.Fatal(err)
		}
		id := p.job("acme/app", 10*time.Second)
		time.Sleep(time.Second)
		var last hub.Delivery
		for _, d := range p.w.GitHub.Deliveries() {
			last = d
		}
		if last.Code != http.StatusServiceUnavailable {
			p.t.Errorf("the delivery was answered %d, want 503", last.Code)
		}
		time.Sleep(3 * time.Minute)
		if _, ok := p.troubled("journal"); !ok {
			p.t.Errorf("nobody is told of the journal: %+v", p.status().Troubles)
		}
		p.made(0, 0) // no intent, no effect
		p.stop()
		p.start()
		p.served(10 * time.Minute)
		p.succeeded(id)
	})
}

func TestAdminAnswersWhatItIsAsked(t *testing.T) {
	story(t, usual, spares(2, 1), func(p *play) {
		id := p.job("acme/app", 5*time.Minute)
		p.began(id, time.Minute)
		time.Sleep(20 * time.Second)
		s := p.status()
		if s.Running != 1 || s.Queued != 0 || len(s.Pools) != 1 || s.Pools[0].Phases["busy"] != 1 || s.Pools[0].Phases["spare"] != 1 ||
			s.Delivery != "env" || s.Version != "test" || len(s.Nodes) != 1 || s.Revision == "" || len(s.Troubles) != 0 {
			p.t.Errorf("status: %+v", s)
		}
		for key, v := range admin[map[string]any](p, "GET", "/v1/status") {
			if v == nil {
				p.t.Errorf("status: %s is null", key)
			}
		}
		node := admin[struct{ Nodes []map[string]any }](p, "GET", "/v1/status").Nodes[0]
		if node["name"] == nil || node["online"] != true {
			p.t.Errorf("node: %v", node)
		}
		waits := p.job("acme/app", time.Minute, "gpu")
		time.Sleep(time.Second)
		plan := admin[daemon.PlanStatus](p, "GET", "/v1/plan")
		if len(plan.Blocked) != 1 || plan.Blocked[0].Job != int64(waits) || plan.Blocked[0].Reason == "" || plan.Actions == nil {
			p.t.Errorf("plan: %+v", plan)
		}
		running := admin[[]daemon.JobStatus](p, "GET", "/v1/jobs?status=in_progress&repo=ACME/app&limit=5")
		if len(running) != 1 || running[0].ID != int64(id) || running[0].Runner == "" {
			p.t.Errorf("running jobs: %+v", running)
		}
		detail := admin[daemon.JobDetail](p, "GET", fmt.Sprintf("/v1/jobs/%d", id))
		var whats []string
		for _, e := range detail.Timeline {
			whats = append(whats, e.What)
		}
		told := strings.Join(whats, " ")
		for _, want := range []string{"queued", "delivered", "decided", "cloned", "minted", "started", "running"} {
			if !strings.Contains(told, want) {
				p.t.Errorf("timeline lacks %s: %s", want, told)
			}
		}
		if events := admin[[]daemon.Event](p, "GET", "/v1/events?after=2&limit=3"); len(events) != 3 || events[0].ID <= 2 {
			p.t.Errorf("events: %+v", events)
		}
		admin[struct{}](p, "POST", "/v1/sync")
		for _, tt := range []struct {
			method, path string
			want         int
		}{
			{"GET", "/v1/jobs/1", 404}, {"GET", "/v1/jobs/x", 400}, {"GET", "/v1/nothing", 404}, {"POST", "/v1/status", 405},
			{"GET", "/v1/sync", 405}, {"GET", "/v1/jobs?limit=0", 400}, {"GET", "/v1/jobs?limit=99999", 400}, {"GET", "/v1/jobs?status=odd", 400},
			{"GET", "/v1/events", 400}, {"GET", "/v1/events?after=0&limit=0", 400}, {"GET", "/v1/events?after=x&limit=1", 400},
		} {
			if w := ask(p.now.d.Admin(), tt.method, tt.path); w.Code != tt.want || w.Body.Len() == 0 {
				p.t.Errorf("%s %s: answered %d %q, want %d and a reason", tt.method, tt.path, w.Code, w.Body, tt.want)
			}
		}
		p.w.GitHub.CancelJob(waits)
		p.setPools(strings.Replace(spares(2, 1), "scale {", "enabled = false\n scale {", 1))
		p.served(10 * time.Minute)
	})
}

// TestNothingHangsOnAStoppedDaemon asks everything of a daemon that has ended.
func TestNothingHangsOnAStoppedDaemon(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		d := p.now.d
		p.stop()
		began := time.Now()
		for path, h := range map[string]http.Handler{
			"/v1/status": d.Admin(), "/v1/plan": d.Admin(), "/healthz": d.Public(), "/readyz": d.Public(), "/metrics": d.Public(),
		} {
			if w := ask(h, http.MethodGet, path); w.Code < 500 {
				p.t.Errorf("%s of a stopped daemon answers %d", path, w.Code)
			}
		}
		if d.Healthy(p.t.Context()) == nil {
			p.t.Error("a stopped daemon counts as healthy")
		}
		if took := time.Since(began); took > time.Second {
			p.t.Errorf("the answers took %s", took)
		}
		p.start()
	})
}

func TestReadyOncePoolsNodesAndATemplateAreKnown(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		ready := func(want int, why string) {
			p.t.Helper()
			w := ask(p.now.d.Public(), http.MethodGet, "/readyz")
			if w.Code != want || !strings.Contains(w.Body.String(), why) {
				p.t.Errorf("/readyz answers %d %s, want %d %s", w.Code, w.Body, want, why)
			}
			if w := ask(p.now.d.Public(), http.MethodGet, "/healthz"); w.Code != http.StatusOK {
				p.t.Errorf("/healthz answers %d", w.Code)
			}
		}
		ready(200, "ok")
		p.stop()
		p.loseJournal()
		if err := os.Rename(p.poolsDir(), p.poolsDir()+".away"); err != nil {
			p.t.Fatal(err)
		}
		p.govern(down("pve.test"))
		p.w.Proxmox.SetOption(9000, "tags", "dayfly;"+proxmox.BuildingTag)
		p.start()
		time.Sleep(time.Second)
		ready(503, "no pools")
		if err := os.Rename(p.poolsDir()+".away", p.poolsDir()); err != nil {
			p.t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		ready(503, "no node has been listed")
		p.govern(nil)
		time.Sleep(2 * time.Minute)
		ready(503, "no node has a template")
		p.w.Proxmox.SetOption(9000, "tags", "dayfly;ready")
		time.Sleep(2 * time.Minute)
		ready(200, "ok")
	})
}

// sample is a line of Prometheus's text format.
var sample = regexp.MustCompile(`^[a-z_:][a-zA-Z0-9_:]*(\{([a-z_]+="[^"]*",?)*\})? [-+0-9.eInfNa]+\n$`)

func TestMetricsCount(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		id := p.job("acme/app", 5*time.Minute)
		p.began(id, time.Minute)
		p.job("acme/app", time.Minute, "ubuntu-latest") // nobody's
		waits := p.job("acme/app", time.Second, "gpu")
		time.Sleep(time.Minute)
		w := ask(p.now.d.Public(), http.MethodGet, "/metrics")
		if w.Code != http.StatusOK {
			p.t.Fatalf("/metrics answers %d %s", w.Code, w.Body)
		}
		for line := range strings.Lines(w.Body.String()) {
			if !strings.HasPrefix(line, "# ") && !sample.MatchString(line) {
				p.t.Errorf("not a sample: %s", line)
			}
		}
		for _, want := range []string{
			`dayfly_runners{phase="busy",pool="linux"} 1`, `dayfly_jobs{status="queued"} 2`, `dayfly_jobs{status="in_progress"} 1`,
			`dayfly_starts_total 1`, `dayfly_oldest_queued_seconds 0`, `dayfly_troubles 0`, `dayfly_deliveries_total{code="202"}`,
			`dayfly_action_seconds_count{kind="clone",outcome="ok"} 1`, `dayfly_github_quota{installation="0",resource="core",what="remaining"}`, "\ndayfly_journal_bytes ", "\ngo_goroutines ",
		} {
			if !strings.Contains(w.Body.String(), want) {
				p.t.Errorf("metrics lack %s", want)
			}
		}
		for _, j := range p.w.GitHub.Jobs() {
			if j.ID != id {
				p.w.GitHub.CancelJob(j.ID)
			}
		}
		p.served(10 * time.Minute)
		if p.look(waits).Conclusion != hub.Cancelled {
			p.t.Error("the odd job ran")
		}
	})
}

// TestSecretsAreNowhereTheyMustNotBe looks for every secret of the world in
// whatever the daemon says and keeps.
func TestSecretsAreNowhereTheyMustNotBe(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		p.govern(once(calls("PUT", "/config"), lose))
		first := p.job("acme/app", time.Minute)
		p.govern(once(calls("POST", "/generate-jitconfig"), lose))
		p.w.Proxmox.FailNext("vzstart", "command failed: exit code 5")
		p.began(first, 5*time.Minute)
		said := map[string]string{"log": p.logs.String()}
		for _, path := range []string{"/v1/status", "/v1/plan", "/v1/jobs", fmt.Sprintf("/v1/jobs/%d", first), "/v1/events?after=0&limit=10000"} {
			said[path] = ask(p.now.d.Admin(), http.MethodGet, path).Body.String()
		}
		said["/metrics"] = ask(p.now.d.Public(), http.MethodGet, "/metrics").Body.String()
		p.served(10 * time.Minute)
		p.stop()
		files, _ := filepath.Glob(filepath.Join(p.dir, "journal.db*"))
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				p.t.Fatal(err)
			}
			said[f] = string(text)
		}
		secrets := p.w.Secrets()
		for where, text := range said {
			if len(text) == 0 && !strings.HasSuffix(where, "lock") {
				p.t.Errorf("%s is empty: the search says nothing", where)
			}
			for _, secret := range secrets {
				quoted, _ := json.Marshal(secret)
				if strings.Contains(text, secret) || strings.Contains(text, strings.Trim(string(quoted), `"`)) {
					p.t.Errorf("a secret is in %s: %.8s…", where, secret)
				}
			}
		}
		if len(secrets) < 8 {
			p.t.Errorf("only %d secrets were looked for", len(secrets))
		}
		p.start()
	})
}

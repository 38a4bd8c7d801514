package daemon_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// usual is how long things take in the stories, about as in life.
var usual = sim.Config{
	PVE:   pve.Config{Timing: pve.Timing{Clone: time.Second, Start: 500 * time.Millisecond, Stop: 500 * time.Millisecond, Destroy: 500 * time.Millisecond}},
	Guest: sim.GuestTiming{Boot: 500 * time.Millisecond, Connect: time.Second, Exit: 100 * time.Millisecond},
}

// story plays one story: the daemon starts in a world with these pools and has
// looked at everything; at the end every promise must have been kept.
func story(t *testing.T, cfg sim.Config, files string, tell func(*play)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPlay(t, cfg, files)
		p.start()
		defer func() { p.stop() }()
		time.Sleep(10 * time.Second)
		tell(p)
		p.check()
		if t.Failed() {
			t.Log(p.w.Summary())
			t.Log(p.logs.String())
		}
	})
}

// one is the pool of onePool with so many containers at most, and what else
// its block has.
func one(most int, more ...string) string {
	return fmt.Sprintf(onePool, fmt.Sprintf("scale { max = %d }\n%s", most, strings.Join(more, "\n")))
}

// spares is the pool of onePool with spares.
func spares(most, n int) string {
	return fmt.Sprintf(onePool, fmt.Sprintf("scale {\n max = %d\n spare = %d\n}", most, n))
}

// served waits until every job has ended, then until nothing is left.
func (p *play) served(limit time.Duration) bool {
	p.t.Helper()
	return p.until(limit, "every job ends", p.over) && p.gone(10*time.Minute)
}

func (p *play) gone(limit time.Duration) bool {
	p.t.Helper()
	return p.until(limit, "nothing is left", func() bool { return p.w.Left().Empty() })
}

// began waits until the job runs and returns how long it waited since it was
// queued.
func (p *play) began(id hub.JobID, limit time.Duration) time.Duration {
	p.t.Helper()
	p.until(limit, fmt.Sprintf("job %d begins", id), func() bool { return !p.look(id).Started.IsZero() })
	return p.look(id).Started.Sub(p.look(id).Created)
}

func (p *play) look(id hub.JobID) hub.Job {
	p.t.Helper()
	j, ok := p.w.GitHub.Job(id)
	if !ok {
		p.t.Fatalf("there is no job %d", id)
	}
	return j
}

// succeeded fails the test unless the jobs ended well.
func (p *play) succeeded(ids ...hub.JobID) {
	p.t.Helper()
	for _, id := range ids {
		if j := p.look(id); j.Conclusion != hub.Success || j.Lost {
			p.t.Errorf("job %d ended with %q (lost %t), want success", id, j.Conclusion, j.Lost)
		}
	}
}

// made fails the test unless so many containers and JIT configs were made.
func (p *play) made(clones, configs int) {
	p.t.Helper()
	s := p.w.Summary()
	if s.Clones != clones || s.JITMinted != configs {
		p.t.Errorf("%d containers and %d JIT configs were made, want %d and %d", s.Clones, s.JITMinted, clones, configs)
	}
}

// govern sets the rule for the daemon's requests; nil lets them all through.
func (p *play) govern(f rule) {
	if f == nil {
		p.rule.Store(nil)
		return
	}
	p.rule.Store(&f)
}

// down is a rule that cuts a side off.
func down(host string) rule {
	return func(r *http.Request) fate {
		if r.URL.Hostname() == host {
			return refuse
		}
		return arrive
	}
}

// once gives the first request that suits a fate of its own.
func once(suits func(*http.Request) bool, does fate) rule {
	done := make(chan struct{}, 1)
	return func(r *http.Request) fate {
		if !suits(r) {
			return arrive
		}
		select {
		case done <- struct{}{}:
			return does
		default:
			return arrive
		}
	}
}

// calls suits requests of a method whose path ends so.
func calls(method, end string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == method && strings.HasSuffix(r.URL.Path, end) }
}

// ask calls a handler of the daemon.
func ask(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

// admin asks the running daemon as the command line does.
func admin[T any](p *play, method, path string) T {
	p.t.Helper()
	var out T
	w := ask(p.now.d.Admin(), method, path)
	if w.Code != http.StatusOK {
		p.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		p.t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
	}
	return out
}

func (p *play) status() daemon.Status {
	p.t.Helper()
	return admin[daemon.Status](p, http.MethodGet, "/v1/status")
}

// troubled returns the trouble that contains a text.
func (p *play) troubled(text string) (daemon.Trouble, bool) {
	p.t.Helper()
	for _, tr := range p.status().Troubles {
		if strings.Contains(tr.What, text) {
			return tr, true
		}
	}
	return daemon.Trouble{}, false
}

// idle reports whether no action is under way.
func idle(s daemon.Status) bool {
	return !slices.ContainsFunc(s.Runners, func(r daemon.RunnerStatus) bool { return r.Pending != "" })
}

// containers are the VMIDs of our containers.
func (p *play) containers() []int { return p.w.Left().Containers }

// running are the VMIDs of those that run.
func (p *play) running() []int {
	var ids []int
	for _, id := range p.containers() {
		if c, ok := p.w.Proxmox.Container(id); ok && c.Running {
			ids = append(ids, id)
		}
	}
	return ids
}

// watch calls look ten times a second until the returned function is called.
func (p *play) watch(look func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			look()
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() { cancel(); <-done }
}

// loseJournal deletes the journal of a daemon that does not run.
func (p *play) loseJournal() {
	p.t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "journal.db*"))
	if err != nil || len(files) == 0 {
		p.t.Fatalf("no journal in %s: %v", p.dir, err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			p.t.Fatal(err)
		}
	}
}

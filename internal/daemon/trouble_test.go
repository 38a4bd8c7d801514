package daemon_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// only fails the test unless there is one trouble, which says what and how.
func (p *play) only(what, how string) {
	p.t.Helper()
	list := p.status().Troubles
	if len(list) != 1 || !strings.Contains(list[0].What, what) || !strings.Contains(list[0].Hint, how) {
		p.t.Errorf("troubles %+v, want one: %s, %s", list, what, how)
	}
}

// logged is how many lines of the log contain a text.
func (p *play) logged(text string) int { return strings.Count(p.logs.String(), text) }

// TestOneOutageIsOneTrouble has every look fail, and the launch of a job: what
// is told is the outage, with what it is and what to do about it.
func TestOneOutageIsOneTrouble(t *testing.T) {
	refused := func(r *http.Request) fate {
		if r.URL.Hostname() == "github.test" {
			r.Header.Set("Authorization", "Bearer of-nobody")
		}
		return arrive
	}
	for name, tt := range map[string]struct {
		rule      rule
		what, how string
	}{
		"GitHub is cut off":        {down("github.test"), "GitHub is out of reach: ", "check that this host reaches github.test"},
		"GitHub refuses the App":   {refused, "GitHub does not accept the App: GitHub answered 401", "check the App id"},
		"Proxmox is not reachable": {down("pve.test"), "list nodes", "check that this host reaches it"},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, usual, spares(2, 1), func(p *play) {
				p.until(time.Minute, "a spare is there", func() bool { return p.status().Pools[0].Phases["spare"] == 1 })
				p.govern(tt.rule)
				id := p.job("acme/app", 10*time.Second)
				time.Sleep(20 * time.Minute)
				p.only(tt.what, tt.how)
				if n := p.logged("msg=trouble "); n != 1 {
					p.t.Errorf("%d lines in the log tell of it, want one", n)
				}
				p.govern(nil)
				p.began(id, 2*time.Minute)
				p.until(2*time.Minute, "the outage is over", func() bool { return len(p.status().Troubles) == 0 })
				p.setPools(strings.Replace(spares(2, 1), "scale {", "enabled = false\n scale {", 1))
				p.served(10 * time.Minute)
				p.succeeded(id)
			})
		})
	}
}

// alone is set in the test's process that has a mount namespace of its own.
const alone = "DAYFLY_TEST_ALONE"

// TestFullDiskLosesNothing fills the file system that the journal is on: what
// GitHub delivers is refused, so that it can be delivered again; what was
// accepted is kept; one trouble and /readyz say so; and once there is room
// again, everything goes on by itself.
func TestFullDiskLosesNothing(t *testing.T) {
	if os.Getenv(alone) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), alone+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		switch {
		case errors.Is(err, syscall.EPERM), strings.Contains(string(out), "--- SKIP"):
			t.Skipf("cannot mount a small file system: %v %s", err, out)
		case err != nil:
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, "")
	if err == nil {
		err = syscall.Mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=4m") // see scratch
	}
	if err != nil {
		t.Skip(err)
	}
	story(t, usual, one(2), func(p *play) {
		kept := p.untilRefused(0)
		p.setPools(spares(2, 1)) // something to begin
		id := p.job("acme/app", 10*time.Second)
		time.Sleep(time.Second)
		deliveries := p.w.GitHub.Deliveries()
		if last := deliveries[len(deliveries)-1]; last.Code != http.StatusServiceUnavailable {
			p.t.Errorf("the delivery was answered %d, want 503", last.Code)
		}
		time.Sleep(20 * time.Minute)
		p.only("the journal cannot be written: disk full", "free space on the disk of the state directory")
		if n := p.logged("msg=trouble "); n != 1 {
			p.t.Errorf("%d lines in the log tell of it, want one", n)
		}
		w := ask(p.now.d.Public(), http.MethodGet, "/readyz")
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "disk full") {
			p.t.Errorf("/readyz answers %d %s, want 503 and the reason", w.Code, w.Body)
		}
		if w := ask(p.now.d.Public(), http.MethodGet, "/healthz"); w.Code != http.StatusOK {
			p.t.Errorf("/healthz answers %d", w.Code)
		}
		p.made(0, 0)
		p.makeRoom()
		p.began(id, 30*time.Second)
		p.setPools(one(2))
		p.until(2*time.Minute, "the pool has no spare", func() bool { s := p.status().Pools; return len(s) == 1 && s[0].Spare == 0 })
		p.served(10 * time.Minute)
		p.succeeded(id)
		if got := len(admin[[]daemon.JobStatus](p, "GET", "/v1/jobs?limit=10000")); got != kept+1 {
			p.t.Errorf("%d jobs are known, want the %d that were accepted and the one that was refused", got, kept)
		}
		p.untilRefused(kept) // with nothing else to write
		time.Sleep(time.Minute)
		p.only("the journal cannot be written: disk full", "free space")
		p.makeRoom()
	})
}

// makeRoom empties the disk and has the daemon notice it.
func (p *play) makeRoom() {
	p.t.Helper()
	if err := os.Remove(filepath.Join(p.dir, "ballast")); err != nil {
		p.t.Fatal(err)
	}
	time.Sleep(10 * time.Second)
	if w := ask(p.now.d.Public(), http.MethodGet, "/readyz"); w.Code != http.StatusOK {
		p.t.Errorf("with room again /readyz answers %d %s", w.Code, w.Body)
	}
}

// untilRefused fills the disk and delivers until a delivery is refused: SQLite
// uses the room that its files have before it wants more. It returns how many
// were accepted, those before from included.
func (p *play) untilRefused(from int) int {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, "ballast"), make([]byte, 8<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		p.t.Fatalf("fill the disk: %v", err)
	}
	for kept := from; kept < 10000; kept++ {
		body := fmt.Sprintf(`{"action":"completed","repository":{"full_name":"acme/app"},"workflow_job":{"id":%d,"run_id":1,
			"status":"completed","conclusion":"success","name":%q,"labels":["linux"]}}`, kept+1, strings.Repeat("x", 2000))
		w := p.post(strings.NewReader(body), map[string]string{
			"X-Hub-Signature-256": sign("sha256", sha256.New, webhookSecret, body),
			"X-GitHub-Event":      "workflow_job", "X-GitHub-Delivery": fmt.Sprintf("fill-%d", kept),
		})
		switch w.Code {
		case http.StatusAccepted:
		case http.StatusServiceUnavailable:
			return kept
		default:
			p.t.Fatalf("delivery %d is answered %d %s", kept, w.Code, w.Body)
		}
	}
	p.t.Fatal("the disk does not fill")
	return 0
}

// TestRightThatIsGrantedEndsItsTroublesSoon takes the right to clone away
// while a job is queued, and gives it back when nothing waits for it.
func TestRightThatIsGrantedEndsItsTroublesSoon(t *testing.T) {
	for name, waits := range map[string]bool{"the job waits": true, "the job is gone": false} {
		t.Run(name, func(t *testing.T) {
			story(t, usual, one(2), func(p *play) {
				p.w.Proxmox.RevokeACL("/storage/"+pve.LabStorage, "DayflyStorage", "dayfly@pve", pve.LabToken)
				id := p.job("acme/app", 10*time.Second)
				p.until(3*time.Minute, "the refusal and the check are told", func() bool {
					list := p.status().Troubles
					for _, tr := range list {
						if !tr.Next.After(time.Now()) || time.Until(tr.Next) > 2*time.Minute {
							return false
						}
					}
					return len(list) > 1
				})
				if !waits {
					p.w.GitHub.CancelJob(id)
				}
				p.w.Proxmox.SetACL("/storage/"+pve.LabStorage, "DayflyStorage", true, "dayfly@pve", pve.LabToken)
				p.until(4*time.Minute, "no trouble is left", func() bool { return len(p.status().Troubles) == 0 })
				p.served(10 * time.Minute)
				if waits {
					p.succeeded(id)
				}
			})
		})
	}
}

// TestSyncTriesAgainAtOnce: who has mended something need not wait.
func TestSyncTriesAgainAtOnce(t *testing.T) {
	files := strings.Replace(one(2), "timeouts {", "retry { backoff = \"30m..1h\" }\n timeouts {", 1)
	story(t, usual, files, func(p *play) {
		p.w.Proxmox.FailNext("vzclone", "command failed: exit code 5")
		id := p.job("acme/app", 10*time.Second)
		time.Sleep(5 * time.Minute)
		if !p.look(id).Started.IsZero() {
			p.t.Fatal("the job did not wait")
		}
		admin[struct{}](p, "POST", "/v1/sync")
		p.began(id, 20*time.Second)
		p.served(10 * time.Minute)
		p.succeeded(id)
	})
}

// TestRefusedDeliveriesAreCountedNotToldEach floods the webhook.
func TestRefusedDeliveriesAreCountedNotToldEach(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		for range 300 {
			p.post(strings.NewReader("{}"), nil)
			p.post(strings.NewReader("{}"), map[string]string{"X-Hub-Signature-256": sign("sha256", sha256.New, "theirs", "{}")})
			time.Sleep(700 * time.Millisecond)
		}
		time.Sleep(2 * time.Minute)
		for text, want := range map[string]int{
			`msg="delivery refused" delivery="" err="webhook: bad signature: the header X-Hub-Signature-256 is missing: `:     1,
			`msg="delivery refused" delivery="" err="webhook: bad signature: the body was not signed with our secret: `:       1,
			`more deliveries refused within a minute" err="webhook: bad signature: the header X-Hub-Signature-256 is missing`: 4,
		} {
			if got := p.logged(text); got != want {
				p.t.Errorf("%d lines with %s, want %d", got, text, want)
			}
		}
		counted := 2
		for _, m := range regexp.MustCompile(`msg="(\d+) more deliveries refused`).FindAllStringSubmatch(p.logs.String(), -1) {
			n, _ := strconv.Atoi(m[1])
			counted += n
		}
		if counted != 600 {
			p.t.Errorf("the lines account for %d deliveries, want 600", counted)
		}
		if text := ask(p.now.d.Public(), http.MethodGet, "/metrics").Body.String(); !strings.Contains(text, `dayfly_deliveries_total{code="401"} 600`) {
			p.t.Error("the metric does not count them")
		}
		p.post(strings.NewReader("{}"), nil)
		if got := p.logged(`msg="delivery refused"`); got != 3 {
			p.t.Errorf("after a quiet time the next one is not told at once: %d lines", got)
		}
	})
}

// TestRunnerIsKnownToListenByItsJob: between two listings of registrations a
// runner begins to listen and takes a job.
func TestRunnerIsKnownToListenByItsJob(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		runners := calls("GET", "/actions/runners")
		p.govern(func(r *http.Request) fate {
			if runners(r) {
				return refuse
			}
			return arrive
		})
		id := p.job("acme/app", 30*time.Second)
		p.began(id, time.Minute)
		time.Sleep(5 * time.Second)
		p.govern(nil)
		p.served(10 * time.Minute)
		var told []string
		for _, e := range admin[daemon.JobDetail](p, "GET", fmt.Sprintf("/v1/jobs/%d", id)).Timeline {
			told = append(told, e.What)
		}
		if way := strings.Join(told, " "); strings.Count(way, "listening") != 1 || !strings.Contains(way, "started listening running") {
			p.t.Errorf("the timeline is %s", way)
		}
		p.succeeded(id)
		if j := p.look(id); j.Status != hub.StatusCompleted {
			p.t.Errorf("the job is %s", j.Status)
		}
	})
}

func TestJournalsSizeCountsItsWriteAheadLog(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		sizes := map[string]int64{}
		for _, name := range []string{"journal.db", "journal.db-wal"} {
			file, err := os.Stat(filepath.Join(p.dir, name))
			if err != nil {
				p.t.Fatal(err)
			}
			sizes[name] = file.Size()
		}
		if sizes["journal.db-wal"] == 0 {
			p.t.Fatal("there is no write-ahead log: the test shows nothing")
		}
		want := fmt.Sprintf("\ndayfly_journal_bytes %v\n", float64(sizes["journal.db"]+sizes["journal.db-wal"]))
		if text := ask(p.now.d.Public(), http.MethodGet, "/metrics").Body.String(); !strings.Contains(text, want) {
			p.t.Errorf("want %s", want)
		}
	})
}

package daemon

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/host"
	"github.com/dayfly-ci/dayfly/internal/journal"
)

// says is a root half that gives one answer to everything.
type says string

func (s says) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Dayfly-Contract": {"2"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(string(s))),
	}, nil
}

// TestWorkerGoesBeforeGitHub: who works is not deregistered, and GitHub, which
// may say that it is idle, is not even asked: there is no client of it here.
func TestWorkerGoesBeforeGitHub(t *testing.T) {
	d := &Daemon{}
	d.halves.set("pve", &half{client: host.Over("test", "http://half.test", says(`{"boot":"1","worker":true}`))})
	r := fleet.Runner{Name: "r", Node: "pve", VMID: 20000, Container: fleet.Running, Started: time.Now()}
	out := d.deregister(t.Context(), fleet.Action{Kind: fleet.Deregister, Reason: "no job within 5m"}, r)
	if !errors.Is(out.err, fleet.ErrBusy) {
		t.Fatalf("deregistered: %+v", out)
	}
	kept := &runner{Runner: r}
	out.apply(kept)
	if kept.Took.IsZero() || kept.Phase() != fleet.Busy {
		t.Errorf("the runner counts as %s: %+v", kept.Phase(), kept.Runner)
	}
}

// TestWorkerThatIsSeenFirstShowsThatItsRunnerListens: before any listing, and any
// webhook, says so, and whatever cut its launch off.
func TestWorkerThatIsSeenFirstShowsThatItsRunnerListens(t *testing.T) {
	d := still(t)
	r := &runner{Runner: fleet.Runner{Name: "r", Node: "pve", VMID: 100, Created: time.Now(), Launched: time.Now()}}
	d.state.add(r)
	d.worked(&d.state, "r")
	d.worked(&d.state, "r") // seen again
	if r.Took.IsZero() || r.Listened.IsZero() || r.Started.IsZero() || r.Phase() != fleet.Busy {
		t.Errorf("the runner counts as %s: %+v", r.Phase(), r.Runner)
	}
	if err := d.cfg.Journal.Put(t.Context(), "afterwards", nil); err != nil {
		t.Fatal(err)
	}
	events, err := d.cfg.Journal.Events(t.Context(), 0, 10)
	var told []journal.Stage
	for _, e := range events {
		told = append(told, e.What)
	}
	if err != nil || !slices.Equal(told, []journal.Stage{journal.Listening, worker}) {
		t.Errorf("the journal tells %v, %v", told, err)
	}
}

// TestRootHalfThatLeavesBeforeALaunchIsMissed: a fresh clone has no config by env
// instead, for nobody has looked for its firewall's rules. There is no client of
// GitHub or Proxmox here.
func TestRootHalfThatLeavesBeforeALaunchIsMissed(t *testing.T) {
	d := &Daemon{cfg: Config{Hosts: []*host.Client{host.Over("test", "http://half.test", says(`{}`))}}}
	r := &runner{Runner: fleet.Runner{Name: "r", Node: "pve", VMID: 100, Cloned: time.Now(), Launched: time.Now()}}
	out := d.launch(t.Context(), r.Runner, fleet.Pool{Timeouts: fleet.Timeouts{Launch: time.Minute}})
	if !errors.Is(out.err, fleet.ErrUnavailable) || out.hold != nobody {
		t.Fatalf("launched: %+v", out)
	}
	if out.apply(r); !r.Launched.IsZero() {
		t.Errorf("the runner counts as %s", r.Phase())
	}
}

// TestForgedExitCodeIsNotBelieved: who had a job may have written what the root
// half collects. Code 7 would condemn the template version.
func TestForgedExitCodeIsNotBelieved(t *testing.T) {
	idle := fleet.Runner{Name: "r", Listened: time.Now()}
	knows, took := idle, idle
	knows.Job, took.Took = 1, time.Now()
	for name, c := range map[string]struct {
		runner fleet.Runner
		text   string
		want   int
	}{
		"it had no job":               {idle, "exited 7: GitHub serves this runner version no longer", 7},
		"its job is known":            {knows, "exited 7: GitHub serves this runner version no longer", 0},
		"its worker was seen":         {took, "exited 7: GitHub serves this runner version no longer", 0},
		"what it left is no sentence": {idle, "unreadable: the file exit.json is not what the guest writes", 0},
		"it left nothing":             {idle, "", 0},
	} {
		if got := exitCode(c.runner, c.text); got != c.want {
			t.Errorf("%s: exit code %d, want %d", name, got, c.want)
		}
	}
}

package daemon

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/host"
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

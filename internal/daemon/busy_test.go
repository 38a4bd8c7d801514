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
		StatusCode: http.StatusOK, Header: http.Header{"Dayfly-Contract": {"1"}}, Request: r,
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

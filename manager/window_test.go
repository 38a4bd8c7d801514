package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/pools"
)

// TestWaitForAWindowAndMisfitsAreRead by whoever asks for the status, or a plan.
func TestWaitForAWindowAndMisfitsAreRead(t *testing.T) {
	var out bytes.Buffer
	p := &program{out: &out, err: &out}
	now := time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
	opens := now.Add(90 * time.Minute)
	err := p.printRollouts([]daemon.RolloutStatus{{Pool: "a", Stage: "preflight", Stable: "u@1", Candidate: "u@2", Opens: opens}, {Pool: "b", Stage: "stable", Stable: "u@1"}}, now)
	if err != nil {
		t.Fatal(err)
	}
	err = p.printPreview(daemon.Preview{
		Report: pools.Report{Valid: true}, Pools: []daemon.PoolChange{{Pool: "a", Change: "changed", Misfits: []string{"template u@1 on n1 is not used: its disk is larger"}}},
		Rolls: []daemon.RollPlan{{Pool: "a", From: "u@1", To: "u@2", Reason: "it is newer", Opens: opens}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"note: pool a: the next step waits for its window, which opens in 1h30m, at 2026-03-01 11:00Z; \"dayfly rollout promote a\" does not wait\n",
		"    template u@1 on n1 is not used: its disk is larger\n", "from u@1 to u@2: it is newer; its window opens 2026-03-01 11:00Z\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it says\n%s\nand lacks %q", out.String(), want)
		}
	}
	if strings.Contains(out.String(), "pool b:") {
		t.Errorf("a pool that waits for nothing is told of:\n%s", out.String())
	}
}

package main

import (
	"strings"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/daemon"
)

// TestDayWithoutItsRollOutsIsNoGoodDay: the verdict is what the exit code says.
func TestDayWithoutItsRollOutsIsNoGoodDay(t *testing.T) {
	const old, good, bad = "ubuntu@1", "ubuntu@2", "ubuntu@3"
	out := []daemon.RolloutTurn{{Stage: "stable", Stable: good}, {Stage: "bake", Stable: old, Candidate: good}}
	was := daemon.RolloutStatus{Stage: "stable", Stable: good, Bad: []daemon.BadVersion{{Version: bad}}}
	both := []string{"broken", "forced"}
	for name, c := range map[string]struct {
		turns   []daemon.RolloutTurn
		now     daemon.RolloutStatus
		refused []string
		want    string // part of the violation; empty: a good day
	}{
		"as it must be":        {out, was, both, ""},
		"never rolled out":     {out[1:], was, both, "ubuntu@2 was not rolled out"},
		"good one is gone":     {out, daemon.RolloutStatus{Stable: old, Bad: was.Bad}, both, "ubuntu@2 was not rolled out: ubuntu@1 is stable"},
		"bad one not noticed":  {out, daemon.RolloutStatus{Stable: good}, both, "ubuntu@3 was not rolled back"},
		"bad one under way":    {out, daemon.RolloutStatus{Stable: good, Candidate: bad, Bad: was.Bad}, both, "ubuntu@3 was not rolled back"},
		"bad one was stable":   {append([]daemon.RolloutTurn{{Stage: "stable", Stable: bad}}, out...), was, both, "ubuntu@3 was not rolled back"},
		"commit was obeyed":    {out, was, both[:1], "1 commits were refused"},
		"nothing has happened": {nil, daemon.RolloutStatus{}, nil, "not rolled out"},
	} {
		var s demoSummary
		s.CommitsRefused = len(c.refused)
		demoRolls{good: good, bad: bad, refused: c.refused}.judge(c.turns, c.now, &s)
		if got := strings.Join(s.violations, "\n"); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		if s.good() != (c.want == "") {
			t.Errorf("%s: the day is good: %t", name, s.good())
		}
	}
}

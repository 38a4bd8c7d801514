package journal

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// TestRolloutsAreRememberedWhole: what a later Roll needs is all of it.
func TestRolloutsAreRememberedWhole(t *testing.T) {
	ctx, at := context.Background(), time.Date(2026, 3, 1, 12, 0, 0, 7, time.UTC)
	j := openHere(t, t.TempDir()+"/journal")
	want := fleet.Rollout{
		Pool: "a", Stable: fleet.Ref{Family: "ubuntu", Version: "1"}, Candidate: fleet.Ref{Family: "ubuntu", Version: "2"},
		Stage: fleet.Canarying, Step: 1, Resume: fleet.Baking, Began: at, Since: at.Add(time.Hour), Reason: "smoke boots passed",
		Good: []fleet.Ref{{Family: "ubuntu", Version: "0"}}, Bad: []fleet.Verdict{{Version: fleet.Ref{Family: "ubuntu", Version: "3"}, Reason: "broken", At: at}},
		Trial: fleet.Tally{Boots: 1, Jobs: 2, Failures: 3}, Answer: at, Boots: []time.Duration{time.Second}, Usual: []time.Duration{2 * time.Second},
		Mark: at.Add(time.Minute), AtMark: []string{"a1 listens"},
	}
	if err := j.Roll(ctx, fleet.Rollout{Pool: "a", Reason: "first"}, Turn{Pool: "a", Stage: "stable", Reason: "first"}); err != nil {
		t.Fatal(err)
	}
	turn := Turn{At: at, Pool: "a", Stable: "ubuntu@1", Candidate: "ubuntu@2", Stage: "canary", Step: 1, Reason: "smoke boots passed"}
	if err := j.Roll(ctx, want, turn); err != nil {
		t.Fatal(err)
	}
	got, err := j.Rollouts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]fleet.Rollout{want}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	turns, err := j.Turns(ctx, "a", 1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Turn{turn}, turns); diff != "" {
		t.Errorf("the latest turn: -want +got\n%s", diff)
	}
	if turns, err := j.Turns(ctx, "b", 0); len(turns) > 0 || err != nil {
		t.Errorf("turns of another pool: %v, %v", turns, err)
	}
}

// TestTurnsArePrunedByNumber: they are asked about long after, and are few.
func TestTurnsArePrunedByNumber(t *testing.T) {
	ctx, old := context.Background(), time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	j := openHere(t, t.TempDir()+"/journal")
	var turns []Turn
	for i := range 2100 {
		turns = append(turns, Turn{At: old, Pool: "a", Stage: "bake", Reason: fmt.Sprint(i)})
	}
	if err := j.Roll(ctx, fleet.Rollout{Pool: "a"}, turns...); err != nil {
		t.Fatal(err)
	}
	if err := j.Prune(ctx); err != nil {
		t.Fatal(err)
	}
	left, err := j.Turns(ctx, "", 5000)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 2000 || left[0].Reason != "2099" {
		t.Errorf("%d turns are left, the latest %q; want 2000, the latest 2099", len(left), left[0].Reason)
	}
}

// TestEveryKindOfIntentIsReadBack: one that is not would keep a daemon that was
// killed in the middle of it from ever starting again.
func TestEveryKindOfIntentIsReadBack(t *testing.T) {
	ctx := context.Background()
	j := openHere(t, t.TempDir()+"/journal")
	want := 0
	for k := fleet.None; ; k++ {
		if _, known := fleet.ParseKind(k.String()); !known {
			break
		}
		if _, err := j.Begin(ctx, fleet.Action{Kind: k, Pool: "a", Runner: "r", Reason: "why"}, fleet.Runner{Name: "r"}); err != nil {
			t.Fatal(err)
		}
		want++
	}
	intents, err := j.Unfinished(ctx)
	if err != nil || len(intents) != want || want < 7 {
		t.Fatalf("%d intents, %v; want %d", len(intents), err, want)
	}
	for i, in := range intents {
		if in.Action.Kind != fleet.Kind(i) {
			t.Errorf("intent %d is read as %s, want %s", i, in.Action.Kind, fleet.Kind(i))
		}
	}
}

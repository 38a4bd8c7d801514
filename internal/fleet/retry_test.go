package fleet

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDelayDoublesUpToItsMaximum(t *testing.T) {
	r := Retry{Min: 2 * time.Second, Max: 30 * time.Second}
	for failures, whole := range map[int]time.Duration{
		-1: 0, 0: 0, 1: 2 * time.Second, 2: 4 * time.Second, 3: 8 * time.Second, 4: 16 * time.Second, 5: 30 * time.Second, 1000: 30 * time.Second,
	} {
		got := r.Delay(failures, 7)
		if got > whole || got < whole*3/4 {
			t.Errorf("Delay(%d) = %s, want at most a quarter less than %s", failures, got, whole)
		}
	}
}

func TestDelaySpreads(t *testing.T) {
	seen := map[time.Duration]bool{}
	for seed := range uint64(100) {
		seen[Retry{time.Second, time.Minute, 0}.Delay(3, seed)] = true
	}
	if len(seen) < 50 {
		t.Errorf("100 pools that failed together return at %d different times", len(seen))
	}
}

func TestDelayIsBoundedForAnyRetry(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Retry{Min: time.Duration(rapid.Int64().Draw(t, "min")), Max: time.Duration(rapid.Int64().Draw(t, "max"))}
		failures, seed := rapid.IntRange(0, math.MaxInt).Draw(t, "failures"), rapid.Uint64().Draw(t, "seed")
		d := r.Delay(failures, seed)
		if d < 0 || d > max(0, r.Max) || d != r.Delay(failures, seed) {
			t.Fatalf("%+v.Delay(%d, %d) = %s", r, failures, seed, d)
		}
	})
}

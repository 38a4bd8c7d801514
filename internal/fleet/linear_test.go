package fleet

import (
	"testing"
	"time"
)

// TestPlanGrowsLinearly: ten times the runners and jobs may take some more than
// ten times as long, for memory gets slower, and nothing like a hundred times.
// The quickest of several counts, so that other programs do not.
func TestPlanGrowsLinearly(t *testing.T) {
	const few, factor = 800, 10
	quickest := func(n int) time.Duration {
		want, have := crowd(n)
		best := time.Duration(0)
		for range 7 {
			began := time.Now()
			Plan(want, have, noon)
			if took := time.Since(began); best == 0 || took < best {
				best = took
			}
		}
		return best
	}
	a, b := quickest(few), quickest(few*factor)
	if b > 3*factor*a {
		t.Errorf("%d take %s, %d take %s: more than %d times as long", few, a, few*factor, b, 3*factor)
	}
}

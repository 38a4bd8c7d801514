package fleet

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// spent is the processor time of the calling thread so far: what other programs
// take does not count. getrusage tells it in ticks of milliseconds, which is
// more than a small plan takes.
func spent(t *testing.T) time.Duration {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &at); err != nil {
		t.Fatal(err)
	}
	return time.Duration(at.Nano())
}

// TestPlanGrowsLinearly: ten times the runners and jobs may take some more than
// ten times as long, for memory gets slower, and nothing like a hundred times.
func TestPlanGrowsLinearly(t *testing.T) {
	const few, factor = 800, 10
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	quickest := func(n int) time.Duration {
		want, have := crowd(n)
		best := time.Duration(0)
		for range 7 {
			began := spent(t)
			Plan(want, have, noon)
			if took := spent(t) - began; best == 0 || took < best {
				best = took
			}
		}
		return best
	}
	a, b := quickest(few), quickest(few*factor)
	t.Logf("%d take %s, %d take %s", few, a, few*factor, b)
	if b > 3*factor*a {
		t.Errorf("%d take %s, %d take %s: more than %d times as long", few, a, few*factor, b, 3*factor)
	}
}

package fleet

import "time"

// Retry says how failed attempts are spaced. Attempts never end: a queued job
// keeps its demand alive, at Max between tries.
type Retry struct {
	Min, Max time.Duration
	Attempts int // after so many failures in a row the pool counts as degraded
}

// Delay is the time before the try that follows failures failures in a row.
// It doubles from Min to Max and is spread by up to a quarter, so that pools
// that failed together do not return together; seed makes the spread
// repeatable.
func (r Retry) Delay(failures int, seed uint64) time.Duration {
	if failures <= 0 {
		return 0
	}
	d := max(0, min(r.Min, r.Max))
	for i := 1; i < failures && 0 < d && d < r.Max; i++ {
		if d > r.Max/2 {
			d = r.Max
		} else {
			d *= 2
		}
	}
	seed ^= uint64(failures) * 0x9e3779b97f4a7c15
	seed ^= seed >> 31
	seed *= 0xbf58476d1ce4e5b9
	return d - time.Duration(float64(d)*0.25*float64(seed>>40)/(1<<24))
}

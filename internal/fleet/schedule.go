package fleet

import "time"

// Window is a time of each week in which a pool keeps another number of warm
// containers.
type Window struct {
	Days [7]bool        // on which it begins; Sunday is the first
	From time.Duration  // since midnight, by the clock on the wall there
	For  time.Duration  // how long it lasts, at most a day
	Zone *time.Location // nil is UTC
	Warm int
}

// starts is when the window begins on the day that is days after now's.
func (w Window) starts(now time.Time, days int) (time.Time, bool) {
	zone := w.Zone
	if zone == nil {
		zone = time.UTC
	}
	year, month, day := now.In(zone).Date()
	minutes := int(w.From / time.Minute)
	at := time.Date(year, month, day+days, minutes/60, minutes%60, 0, 0, zone)
	noon := time.Date(year, month, day+days, 12, 0, 0, 0, zone) // a day of which no hour is missing
	return at, w.Days[noon.Weekday()]
}

// Warming is how many warm containers the pool keeps now, and until when that
// is so (zero: for ever). Of windows at the same time, the largest number
// counts; outside of all of them, the pool's own.
func (p Pool) Warming(now time.Time) (n int, until time.Time) {
	within := false
	change := func(t time.Time) {
		if t.After(now) {
			until = earlier(until, t)
		}
	}
	for _, w := range p.Windows {
		for days := -1; days <= 8; days++ {
			begin, on := w.starts(now, days)
			if !on || w.For <= 0 {
				continue
			}
			end := begin.Add(w.For)
			change(begin)
			change(end)
			if !now.Before(begin) && now.Before(end) {
				within, n = true, max(n, w.Warm)
			}
		}
	}
	if !within {
		n = p.Warm
	}
	return max(0, n), until
}

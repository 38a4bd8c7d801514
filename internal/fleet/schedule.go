package fleet

import "time"

// Window is a time of each week.
type Window struct {
	Days [7]bool        // on which it begins; Sunday is the first
	From time.Duration  // since midnight, by the clock on the wall there
	For  time.Duration  // how long it lasts, at most a day
	Zone *time.Location // nil is UTC
}

// Schedule is a time of each week in which a pool keeps another number of warm
// containers.
type Schedule struct {
	Window
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

// near calls see with each time around now, from yesterday to a week ahead, at
// which the window is open.
func (w Window) near(now time.Time, see func(begin, end time.Time)) {
	for days := -1; days <= 8; days++ {
		if begin, on := w.starts(now, days); on && w.For > 0 {
			see(begin, begin.Add(w.For))
		}
	}
}

// Warming is how many warm containers the pool keeps now, and until when that
// is so (zero: for ever). Of schedules at the same time, the largest number
// counts; outside of all of them, the pool's own.
func (p Pool) Warming(now time.Time) (n int, until time.Time) {
	within := false
	change := func(t time.Time) {
		if t.After(now) {
			until = earlier(until, t)
		}
	}
	for _, s := range p.Schedules {
		s.near(now, func(begin, end time.Time) {
			change(begin)
			change(end)
			if !now.Before(begin) && now.Before(end) {
				within, n = true, max(n, s.Warm)
			}
		})
	}
	if !within {
		n = p.Warm
	}
	return max(0, n), until
}

// Opens is when the next step of a roll may begin; zero: now.
func (r Rolling) Opens(now time.Time) (at time.Time) {
	open := len(r.Windows) == 0
	for _, w := range r.Windows {
		w.near(now, func(begin, end time.Time) {
			switch {
			case begin.After(now):
				at = earlier(at, begin)
			case now.Before(end):
				open = true
			}
		})
	}
	if open {
		return time.Time{}
	}
	return at
}

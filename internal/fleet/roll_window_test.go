package fleet

import (
	"math/rand/v2"
	"testing"
	"time"
)

// inside says in its own way whether a time is in one of the windows.
func inside(windows []Window, at time.Time) bool {
	for _, w := range windows {
		for back := time.Duration(0); back < w.For; back += time.Minute {
			begin := at.Add(-back).Truncate(time.Minute)
			h, m, _ := begin.UTC().Clock()
			if w.Days[begin.UTC().Weekday()] && time.Duration(h)*time.Hour+time.Duration(m)*time.Minute == w.From && at.Before(begin.Add(w.For)) {
				return true
			}
		}
	}
	return false
}

// someWindows draws one or two windows of whole minutes.
func (l *lot) someWindows() []Window {
	var list []Window
	for range 1 + l.IntN(2) {
		w := Window{From: time.Duration(l.IntN(24*60)) * time.Minute, For: time.Duration(1+l.IntN(24*60)) * time.Minute}
		w.Days[l.IntN(7)] = true
		w.Days[l.IntN(7)] = true
		list = append(list, w)
	}
	return list
}

// TestStepsBeginInTheirWindowOnly plays rolls of good and bad versions at all
// hours: no step begins outside of the pool's window, a way back does whenever
// it is due, each roll comes to its end, and Roll asks to be woken in time.
func TestStepsBeginInTheirWindowOnly(t *testing.T) {
	t.Parallel()
	ends, back, waits := 0, 0, 0
	for seed := range uint64(400) {
		l := &lot{Rand: rand.New(rand.NewPCG(seed, 3)), now: noon, before: 0.01, slower: 1}
		if seed%2 == 0 {
			l.fails = 0.6
		}
		one, two := Ref{"ubuntu", "1"}, Ref{"ubuntu", "2"}
		roll := usualRoll
		roll.Windows, roll.Bake, roll.Deadline = l.someWindows(), time.Hour, 30*24*time.Hour
		want := Desired{Pools: []Pool{{Name: "a", Scope: "acme", Template: Ref{Family: "ubuntu"}, Max: 10, Roll: roll}}}
		have := Observed{
			Nodes: []Node{{Name: "n1", Online: true}}, Templates: []Template{{Ref: one, Node: "n1", VMID: 1}, {Ref: two, Node: "n1", VMID: 2}},
			Rollouts: []Rollout{{Pool: "a", Stable: one, Mark: l.now}},
		}
		over := false
		for n := 0; n < 5000 && !over; n++ {
			was := have.Rollouts[0]
			next, wake := Roll(want, have, l.now)
			have.Rollouts, have.Runners = next, nil
			is := next[0]
			forward := is.Stage > was.Stage && is.Stage >= Smoking && is.Stage <= Full || is.Stage == was.Stage && is.Step > was.Step
			if forward && !inside(roll.Windows, l.now) {
				t.Fatalf("seed %d: %s step %d begins at %s after %s, outside of %v", seed, is.Stage, is.Step, l.now, was.Stage, roll.Windows)
			}
			if !is.Opens.IsZero() {
				waits++
				if inside(roll.Windows, l.now) || !inside(roll.Windows, is.Opens) || wake.IsZero() || wake.After(is.Opens) {
					t.Fatalf("seed %d: at %s it waits until %s, and is woken at %s; windows %v", seed, l.now, is.Opens, wake, roll.Windows)
				}
			}
			over = is.Stage == Settled && (is.Stable == two || len(is.Bad) > 0)
			if len(is.Bad) > len(was.Bad) && !inside(roll.Windows, l.now) {
				back++
			}
			switch {
			case is.Stage == Smoking:
				have.Runners = []Runner{l.boot(two, true)}
			case is.Stage == Canarying || is.Stage == Full:
				have.Runners = []Runner{l.boot(two, false), l.boot(one, false)}
			case is.Stage == Paused || is.Stage == Inconclusive:
				have.Rollouts[0], _ = is.Continue(l.now, "asked for")
			}
			l.now = l.now.Add(time.Duration(l.IntN(90)) * time.Minute)
		}
		if over {
			ends++
		}
	}
	if ends != 400 || back == 0 || waits == 0 {
		t.Errorf("%d of 400 rolls came to an end, %d went back outside of their window, %d times one waited", ends, back, waits)
	}
}

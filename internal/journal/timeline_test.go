package journal

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var second = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(ms int, what Stage) Event {
	return Event{At: second.Add(time.Duration(ms) * time.Millisecond), What: what}
}

func stages(events []Event) string {
	var told []string
	for _, e := range events {
		told = append(told, string(e.What))
	}
	return strings.Join(told, " ")
}

// GitHub says 12:00:01 of what was at 12:00:01.9, after all of our own.
func TestTimelineNeverShowsAnEarlierStageAfterALaterOne(t *testing.T) {
	const way = "queued delivered cloned minted started listening running done destroyed"
	for name, events := range map[string][]Event{
		"whole seconds": {at(0, Queued), at(700, Delivered), at(1000, Running), at(1000, Done), at(1100, Cloned),
			at(1200, Minted), at(1300, Started), at(1400, Listening), at(1950, Destroyed)},
		"all in one second": {at(0, Queued), at(0, Running), at(0, Done), at(100, Delivered), at(200, Cloned),
			at(300, Minted), at(400, Started), at(500, Listening), at(900, Destroyed)},
		"listening seen late": {at(0, Queued), at(700, Delivered), at(1100, Cloned), at(1200, Minted),
			at(1300, Started), at(2000, Running), at(7000, Listening), at(9000, Done), at(9500, Destroyed)},
		"GitHub's clock is behind": {at(-9000, Queued), at(-7000, Running), at(-6000, Done), at(100, Delivered), at(200, Cloned),
			at(300, Minted), at(400, Started), at(500, Listening), at(2900, Destroyed)},
		"GitHub's clock is ahead": {at(100, Delivered), at(200, Cloned), at(300, Minted), at(400, Started), at(500, Listening),
			at(2900, Destroyed), at(9000, Queued), at(11000, Running), at(12000, Done)},
	} {
		inOrder(events)
		if got := stages(events); got != way {
			t.Errorf("%s: %s, want %s", name, got, way)
		}
	}
}

func TestTimelineKeepsATimeWithinItsSecond(t *testing.T) {
	events := []Event{at(1000, Running), at(1300, Started), at(1400, Listening), at(3000, Done)}
	inOrder(events)
	if got := events[2]; got.What != Running || !got.At.Equal(second.Add(1400*time.Millisecond)) {
		t.Errorf("running is event %v at %v, want it with the listening", got.What, got.At)
	}
	if got := events[3]; !got.At.Equal(second.Add(3 * time.Second)) {
		t.Errorf("done was moved to %v without need", got.At)
	}
}

// Whatever is known of a job that ran: the stages that are told are in their
// order.
func TestTimelineOfAnyEventsIsInOrder(t *testing.T) {
	way := []Stage{Queued, Started, Listening, Running, Done, Destroyed}
	rapid.Check(t, func(t *rapid.T) {
		var events []Event
		now := 0
		for _, what := range way {
			if now += rapid.IntRange(1, 3000).Draw(t, "after"); !rapid.Bool().Draw(t, "told") {
				continue
			}
			e := at(now, what)
			switch what {
			case Queued, Running, Done:
				e.At = e.At.Truncate(time.Second)
			case Listening:
				e.At = e.At.Add(time.Duration(rapid.IntRange(0, 9000).Draw(t, "late")) * time.Millisecond)
			}
			events = append(events, e)
		}
		want := stages(events)
		events = rapid.Permutation(events).Draw(t, "order")
		inOrder(events)
		if !strings.Contains(want, "running") {
			return // it may be that it never ran, and ended at any time
		}
		if got := stages(events); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}

package journal

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// inOrder puts a job's events in the order in which they can have happened.
// GitHub tells its times in whole seconds and by its own clock, and a listing
// shows only later that a runner listens, so their times alone would have jobs
// run before their container was started. Each such time becomes the nearest
// one that fits between ours.
func inOrder(events []Event) {
	for i := range events {
		switch e := &events[i]; e.What {
		case Queued:
			e.notAfter(first(events, Delivered))
		case Running:
			e.notAfter(cmp.Or(heard(events, "in_progress"), first(events, Deregistered, Destroyed)))
			e.notBefore(last(events, Queued, Cloned, Minted, Started))
			listened(events, e)
		}
	}
	for i := range events {
		if e := &events[i]; e.What == Done {
			e.notAfter(cmp.Or(heard(events, "completed"), first(events, Deregistered, Destroyed)))
			e.notBefore(last(events, Running))
		}
	}
	slices.SortFunc(events, func(a, b Event) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(turn(a), turn(b)), cmp.Compare(a.ID, b.ID))
	})
}

// listened puts the listening before the running: what was seen only after the
// job was heard to run, or after the second that GitHub names, was seen late.
func listened(events []Event, running *Event) {
	end := running.At.Truncate(time.Second).Add(time.Second)
	for i := range events {
		e := &events[i]
		if e.What != Listening {
			continue
		}
		e.notAfter(heard(events, "in_progress"))
		e.notAfter(first(events, Deregistered, Destroyed))
		if !e.At.Before(end) {
			e.At = running.At
		}
		running.notBefore(e.At)
	}
}

// turn orders what has the same time: first what a job's way begins with, last
// what it ends with.
func turn(e Event) int {
	switch e.What {
	case Waiting, Queued:
		return -1
	case Listening:
		return 1
	case Running:
		return 2
	case Done:
		return 4
	case Deregistered, Destroyed:
		return 6
	case Delivered: // after what it tells
		switch {
		case tells(e, "in_progress"):
			return 3
		case tells(e, "completed"):
			return 5
		}
	}
	return 0
}

// tells reports whether an event is a delivery with that action, see deliver.
func tells(e Event, action string) bool {
	return e.What == Delivered && strings.HasPrefix(e.Detail, "workflow_job "+action+" ")
}

// heard is when the first delivery with an action came, zero without one.
func heard(events []Event, action string) time.Time {
	i := slices.IndexFunc(events, func(e Event) bool { return tells(e, action) })
	if i < 0 {
		return time.Time{}
	}
	return events[i].At
}

// notBefore and notAfter move an event that is too early or too late; the zero
// time asks for nothing.
func (e *Event) notBefore(at time.Time) {
	if e.At.Before(at) {
		e.At = at
	}
}

func (e *Event) notAfter(at time.Time) {
	if !at.IsZero() && e.At.After(at) {
		e.At = at
	}
}

// last and first are the times of the last and the first event of some stages,
// zero without one.
func last(events []Event, whats ...Stage) (at time.Time) {
	for _, e := range events {
		if slices.Contains(whats, e.What) && e.At.After(at) {
			at = e.At
		}
	}
	return at
}

func first(events []Event, whats ...Stage) (at time.Time) {
	for _, e := range events {
		if slices.Contains(whats, e.What) && (at.IsZero() || e.At.Before(at)) {
			at = e.At
		}
	}
	return at
}

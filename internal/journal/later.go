package journal

import (
	"fmt"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Later writes without waiting until it is durable, for a loop that must turn;
// what it writes waits a moment for others to share their commit.
// Writes of one goroutine become durable in the order in which they were made,
// those by Journal's own methods included.
type Later struct {
	j      *Journal
	failed func(error)
}

// Later returns a writer that calls failed, in another goroutine, with the
// error of each write that did not become durable.
func (j *Journal) Later(failed func(error)) Later { return Later{j, failed} }

// Save is Journal.Save.
func (l Later) Save(r fleet.Runner, events ...Event) {
	l.write("save runner "+r.Name, saving(r, events))
}

// Forget is Journal.Forget.
func (l Later) Forget(name string, at time.Time, events ...Event) {
	l.write("forget runner "+name, forgetting(name, at, events))
}

// Note records events of no runner.
func (l Later) Note(events ...Event) {
	l.write("note events", func(t *tx) error { return t.note(events...) })
}

// End is Journal.End.
func (l Later) End(id int64, r fleet.Runner, outcome string, events ...Event) {
	l.write(fmt.Sprintf("end intent %d", id), ending(id, r, outcome, events))
}

func (l Later) write(what string, apply func(*tx) error) {
	then := func(err error) {
		if err != nil {
			l.failed(fmt.Errorf("%s: %w", what, explain(l.j.path, err)))
		}
	}
	w := l.j.newWrite(idle, apply)
	w.then = then
	if !l.j.enqueue(w) {
		go then(ErrClosed)
	}
}

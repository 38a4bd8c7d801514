package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
)

// teller prints the daemon's journal as it grows, with what the day brings in
// between.
type teller struct {
	out     io.Writer
	quiet   bool
	style   style
	begin   time.Time
	now     time.Time      // of the line printed last
	last    int64          // of the journal's entries
	turned  time.Time      // of the roll-outs' turns, the last one
	rolling string         // the candidate then
	jobs    map[int64]int  // short numbers
	names   map[string]int // short numbers of runners
	mints   int            // JIT configs minted by the daemon
}

func newTeller(out io.Writer, quiet bool) *teller {
	return &teller{out: out, quiet: quiet, style: styleOf(out), begin: time.Now(), jobs: map[int64]int{}, names: map[string]int{}}
}

// say prints what happens in the world.
func (t *teller) say(format string, args ...any) {
	if !t.quiet {
		fmt.Fprintf(t.out, "%s %s\n", t.at(time.Now()), t.style.bold("· "+fmt.Sprintf(format, args...)))
	}
}

// quote prints a line of another program.
func (t *teller) quote(line string) {
	if !t.quiet {
		fmt.Fprintf(t.out, "%s   packer       %s\n", t.at(time.Now()), clip(line, 110))
	}
}

// quoteJob prints a line of a job's log.
func (t *teller) quoteJob(line string) {
	if !t.quiet {
		fmt.Fprintf(t.out, "%s   job          %s\n", t.at(time.Now()), clip(strings.TrimSpace(line), 110))
	}
}

// tell prints what the journal has to say since the last time. A daemon that
// is down has nothing to say.
func (t *teller) tell(ctx context.Context, admin *daemon.Client) {
	events, err := admin.Events(ctx, t.last, 1000)
	if err != nil {
		return
	}
	for _, e := range events {
		t.last = e.ID
		if e.What == "minted" {
			t.mints++
		}
	}
	events = append(events, t.turns(ctx, admin)...)
	if t.quiet {
		return
	}
	slices.SortStableFunc(events, func(a, b daemon.Event) int { return a.At.Compare(b.At) })
	for _, e := range events {
		if e.What == "delivered" && !strings.Contains(e.Detail, "queued") {
			continue
		}
		line := fmt.Sprintf("%s   %-12s %-8s %-10s %s", t.at(e.At), e.What, t.job(e.Job), t.runner(e.Runner), clip(t.short(e.Detail), 110))
		fmt.Fprintln(t.out, strings.TrimRight(line, " "))
	}
}

// turns are what the roll-outs have come to since the last time, as entries of
// the journal: a pool is where a runner is in others.
func (t *teller) turns(ctx context.Context, admin *daemon.Client) []daemon.Event {
	list, err := admin.RolloutHistory(ctx, demoPool, 20)
	if err != nil {
		return nil
	}
	var out []daemon.Event
	for _, r := range slices.Backward(list) {
		if !r.At.After(t.turned) {
			continue
		}
		t.turned = r.At
		stage := r.Stage
		switch {
		case r.Step > 0:
			stage += " " + strconv.Itoa(r.Step)
		case r.Candidate == "" && t.rolling != "" && t.rolling != r.Stable: // with no spare to replace, it is back at once
			r.Candidate, stage = t.rolling, "rolled back to "+r.Stable
			t.rolling = ""
		default:
			t.rolling = r.Candidate
		}
		about := cmp.Or(r.Candidate, r.Stable)
		out = append(out, daemon.Event{At: r.At, What: "roll-out", Runner: r.Pool, Detail: about + ": " + stage + ": " + r.Reason})
	}
	return out
}

// refused prints why a commit is not in force.
func (t *teller) refused(why, inForce string) {
	if t.quiet {
		return
	}
	for line := range strings.Lines(why) {
		fmt.Fprintf(t.out, "%s   refused      %s\n", t.at(time.Now()), clip(strings.TrimSpace(line), 130))
	}
	fmt.Fprintf(t.out, "%s   in force     %s\n", t.at(time.Now()), inForce)
}

// at is a time since the demo began. GitHub's times are whole seconds: a line
// never shows an earlier one than the line above it.
func (t *teller) at(when time.Time) string {
	if when.After(t.now) {
		t.now = when
	}
	return fmt.Sprintf("%8.3fs", t.now.Sub(t.begin).Seconds())
}

// job gives jobs short numbers, in the order of their appearance.
func (t *teller) job(id int64) string {
	if id == 0 {
		return ""
	}
	if t.jobs[id] == 0 {
		t.jobs[id] = len(t.jobs) + 1
	}
	return fmt.Sprintf("job %d", t.jobs[id])
}

func (t *teller) runner(name string) string {
	if name == "" || !strings.HasPrefix(name, "dayfly-") {
		return name
	}
	if t.names[name] == 0 {
		t.names[name] = len(t.names) + 1
	}
	return fmt.Sprintf("runner %d", t.names[name])
}

var (
	longJob    = regexp.MustCompile(`\bjob (\d{6,})\b`)
	longRunner = regexp.MustCompile(`\bdayfly-[a-z0-9-]+-[0-9a-f]{16}\b`)
)

// short puts the short numbers into a text.
func (t *teller) short(text string) string {
	text = longJob.ReplaceAllStringFunc(text, func(m string) string {
		id, _ := strconv.ParseInt(strings.TrimPrefix(m, "job "), 10, 64)
		return t.job(id)
	})
	return longRunner.ReplaceAllStringFunc(text, t.runner)
}

func clip(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

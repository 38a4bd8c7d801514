package fleet

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// happening is one thing that counts for a roll-out.
type happening struct {
	at   time.Time
	what string
	of   *Runner
	do   func(*roll, *Runner, *Tally)
}

// count adds what happened since the last time. Everything that happens to a
// runner is noted with the time at which it was noted, so what is later than
// the mark is new; no list of runners has to be kept.
func (v *roll) count() {
	mark, seen := v.Mark, v.AtMark
	for _, r := range v.m.runners[v.Pool] {
		if r.Template != v.Candidate && r.Template != v.Stable || r.Template.Family == "" {
			continue
		}
		for _, h := range [...]happening{
			{r.Listened, "listens", r, (*roll).listened}, {r.Passed, "passed", r, (*roll).proved},
			{r.Took, "took", r, (*roll).took}, {r.Failed, "failed", r, (*roll).failed},
		} {
			if h.at.IsZero() || h.at.Before(mark) || h.at.After(v.m.now) {
				continue
			}
			key := r.Name + " " + h.what
			if !h.at.Equal(mark) || !slices.Contains(seen, key) {
				v.add(h, key)
			}
		}
	}
}

// add counts one thing, and moves the mark.
func (v *roll) add(h happening, key string) {
	t := &v.Control
	if h.of.Template == v.Candidate {
		t = &v.Trial
	}
	h.do(v, h.of, t)
	if t == &v.Trial {
		h.do(v, h.of, &v.Now)
	}
	if h.at.After(v.Mark) {
		v.Mark, v.AtMark = h.at, nil
	}
	if h.at.Equal(v.Mark) {
		v.AtMark = append(slices.Clone(v.AtMark), key)
	}
}

func (v *roll) listened(r *Runner, t *Tally) {
	t.Boots++
	if t == &v.Now || r.Launched.IsZero() {
		return
	}
	times := &v.Usual
	if t == &v.Trial {
		times = &v.Boots
	}
	*times = append(*times, r.Listened.Sub(r.Launched))
	*times = (*times)[max(0, len(*times)-remembered):]
}

// proved counts a smoke boot for its stage alone: the budget is for boots that
// a job might have had.
func (v *roll) proved(_ *Runner, t *Tally) {
	if t == &v.Now {
		t.Boots++
	}
}

func (v *roll) took(r *Runner, t *Tally) {
	t.Jobs++
	if r.Template == v.Stable {
		v.Starving, v.Rest = 0, time.Time{}
	}
}

// starve counts a runner of the stable version that got no job. After a few in
// a row the version rests; it is not condemned, for GitHub may have had trouble
// of its own.
func (v *roll) starve(r *Runner) {
	if v.Starving++; v.Starving >= starvedMost {
		v.Rest = r.Failed.Add(starvedRest)
	}
}

func (v *roll) failed(r *Runner, t *Tally) {
	if r.Smoked.IsZero() || t == &v.Now {
		t.Failures++
	}
	if t == &v.Control {
		if strings.HasPrefix(r.Fault, Starved) {
			v.starve(r)
		}
		return
	}
	v.Fault = r.Fault
	if !r.Smoked.IsZero() {
		v.Avoid = r.Node
		return
	}
	if t == &v.Trial {
		v.Answer = later(v.Answer, r.Failed)
	}
}

// spent reports whether the candidate used up its budget of failures.
func (v *roll) spent() bool {
	boots := v.Trial.Boots + v.Trial.Failures
	return v.Trial.Failures >= max(1, v.q.Roll.MaxFailures)+(max(0, boots-window)+further-1)/further
}

// common reports whether the stable version failed about as often: then it is
// not the template.
func (v *roll) common() bool {
	c, t := v.Control, v.Trial
	return c.Failures >= max(1, v.q.Roll.MaxFailures) && 2*c.Failures*(t.Boots+t.Failures) >= t.Failures*(c.Boots+c.Failures)
}

const (
	// fewest boots whose median says something: with five, boots that scatter
	// by a quarter look half as slow again once in a thousand rolls.
	fewest = 5
	// slack is what a boot may always be slower: registrations are listed every
	// few seconds.
	slack = 3 * time.Second
)

// slower says that candidates boot slower than the stable version did, if so.
func (v *roll) slower() string {
	if v.q.Roll.MaxSlower <= 0 || len(v.Boots) < fewest || len(v.Usual) < fewest {
		return ""
	}
	was, is := median(v.Usual), median(v.Boots)
	if is <= was+slack || is <= was+was*time.Duration(v.q.Roll.MaxSlower)/100 {
		return ""
	}
	return fmt.Sprintf("a boot takes %s, with %s it took %s", is.Round(100*time.Millisecond), v.Stable.Version, was.Round(100*time.Millisecond))
}

func median(list []time.Duration) time.Duration {
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

// Starved begins the reason for which a runner is given up that listened while
// jobs that fit it waited, and got none: GitHub may serve its version no longer.
const Starved = "no job taken in"

// After starvedMost such runners in a row, with none that got a job, no more are
// made for starvedRest: the next would be in vain as well.
const (
	starvedMost = 3
	starvedRest = time.Hour
)

// Refused is the exit code of a runner whose version GitHub refuses, if it is
// asked to tell (actions/runner 2.333.0).
const Refused = 7

// quarantine condemns at once the versions that GitHub refuses: every further
// runner of theirs would be made in vain.
func (v *roll) quarantine() {
	for _, r := range v.m.runners[v.Pool] {
		if r.Exit != Refused || r.Failed.IsZero() || v.bad(r.Template) != nil || !r.Failed.After(v.Pardon) {
			continue
		}
		v.refused(r.Template, "GitHub refuses its runner version (exit code 7)")
	}
	if why := v.at.outdated(v.Candidate); why != "" && v.Stage > Preflight && v.Stage != RollingBack {
		v.leave("%s is not used: %s", v.Candidate, why)
	}
}

func (v *roll) refused(ref Ref, why string) {
	v.condemn(ref, why)
	if ref == v.Candidate && v.Stage != RollingBack {
		v.leave("%s", why)
	}
}

package pools

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/hashicorp/hcl/v2"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// usualSteps are the canary steps of a pool that names none: five jobs find a
// template that fails every other boot with 97 % certainty, and with the next
// twenty one that fails one boot in five.
var usualSteps = []fleet.Canary{{Jobs: 5, AtOnce: 1}, {Jobs: 20, Percent: 25}}

func (r *reader) rollout(b *rolloutBlock) fleet.Rolling {
	out := fleet.Rolling{
		Smoke:       r.count(b.Smoke, 0, 10),
		Wait:        r.duration(b.Wait, 0, time.Hour),
		Bake:        r.duration(b.Bake, 0, 168*time.Hour),
		MaxFailures: r.count(b.Failures, 1, 100),
		MaxSlower:   r.percentage(b.Slower, 1000),
		Deadline:    r.duration(b.Deadline, time.Minute, 168*time.Hour),
		Pause:       r.choice(b.OnFailure, "rollback", "pause") == "pause",
	}
	for _, w := range b.Window {
		out.Windows = append(out.Windows, r.window(w.Days, w.From, w.For, w.Timezone))
	}
	for _, c := range b.Canary {
		step := fleet.Canary{
			Jobs: r.count(c.Jobs, 0, 1000), Percent: r.count(c.Percent, 1, 100), AtOnce: r.count(c.AtOnce, 1, 1000),
		}
		if step.Jobs > 0 {
			out.Canary = append(out.Canary, step)
		}
	}
	if len(b.Canary) == 0 {
		out.Canary = slices.Clone(usualSteps)
	}
	return out
}

var percentForm = regexp.MustCompile(`^[0-9]{1,4}%$`)

// percentage reads "50%".
func (r *reader) percentage(a *hcl.Attribute, most int) int {
	v, ok := r.typed(a, cty.String, `A percentage in quotes, such as "50%",`)
	if !ok {
		return 0
	}
	s := v.AsString()
	n, _ := strconv.Atoi(strings.TrimSuffix(s, "%"))
	if !percentForm.MatchString(s) || n > most {
		r.refuse(a, a.Expr.Range(), `A percentage from "0%%" to "%d%%" is expected, not %.40q.`, most, s)
		return 0
	}
	return n
}

// choice reads one of several words.
func (r *reader) choice(a *hcl.Attribute, words ...string) string {
	v, ok := r.typed(a, cty.String, "A word in quotes")
	if !ok {
		return ""
	}
	s := v.AsString()
	if !slices.Contains(words, s) {
		r.refuse(a, a.Expr.Range(), `"%s" is expected, not %.40q.`, strings.Join(words, `" or "`), s)
		return ""
	}
	return s
}

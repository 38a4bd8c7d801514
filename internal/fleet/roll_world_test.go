package fleet

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// rolled is what the model world adds for roll-outs.
type rolled struct {
	on     bool
	state  []Rollout
	broken map[string]fate       // "ubuntu@2 launch" → what becomes of every such action
	listen map[Ref]time.Duration // how long a version takes to listen
	turned func(was, is Rollout) // called at every change of stage
}

// roll lets Roll decide, as the daemon does before each plan.
func (w *world) roll() {
	if !w.rolls.on {
		return
	}
	w.silent()
	was := w.rolls.state
	next, wake := Roll(w.want, w.observed(), w.now)
	w.rolls.state, w.rollWake = next, wake
	for _, r := range next {
		i := slices.IndexFunc(was, func(o Rollout) bool { return o.Pool == r.Pool })
		old := Rollout{}
		if i >= 0 {
			old = was[i]
		}
		if old.Stage != r.Stage || old.Step != r.Step || old.Candidate != r.Candidate || old.Stable != r.Stable {
			w.say("pool %s: %s", r.Pool, stageText(r))
			if w.rolls.turned != nil {
				w.rolls.turned(old, r)
			}
		}
	}
}

func stageText(r Rollout) string {
	what := r.Stage.String()
	if r.Stage == Canarying {
		what = fmt.Sprintf("canary step %d", r.Step+1)
	}
	of := r.Stable.String()
	if r.Candidate.Family != "" {
		of += " → " + r.Candidate.String()
	}
	return fmt.Sprintf("%s, %s: %s", of, what, r.Reason)
}

// silent notes the runners that do not come up in time, as the daemon does.
func (w *world) silent() {
	for _, r := range w.runners {
		i := slices.IndexFunc(w.want.Pools, func(q Pool) bool { return q.Name == r.Pool })
		if i < 0 || !r.Failed.IsZero() || r.Container == Unseen {
			continue
		}
		t := w.want.Pools[i].Timeouts
		late := func(since time.Time, d time.Duration) bool { return !since.IsZero() && !w.now.Before(since.Add(d)) }
		switch {
		case !r.Smoked.IsZero():
			if r.Passed.IsZero() && r.Spent.IsZero() && late(r.Smoked, t.SmokeTimeout()) {
				r.Failed, r.Fault = w.now, "its checks were not done in time"
			}
		case r.Listened.IsZero() && r.Took.IsZero() && r.Ended.IsZero() && r.Spent.IsZero() && late(r.Started, t.Register):
			r.Failed, r.Fault = w.now, "it did not listen in time"
			if w.rolls.on {
				w.holds = append(w.holds, Hold{Kind: Launch, Pool: r.Pool, Ref: r.Template, Until: w.now.Add(holdFor), Reason: r.Fault})
			}
		}
	}
}

// smoked plays a smoke boot.
func (w *world) smoked(r *Runner, how fate) {
	if how == fails {
		w.say("the smoke boot of %s fails", r.Name)
		w.spend(r, "start failed")
		r.Failed, r.Fault = w.now, "start failed"
		w.unproven(r)
		return
	}
	r.Started, r.Container = w.now, Running
	w.say("%s is started without a job", r.Name)
	w.after(w.took.listen, func() {
		switch {
		case r.Container != Running || how == hangs:
		case how == halves:
			r.Failed, r.Fault = w.now, "Docker does not answer"
			w.unproven(r)
		default:
			r.Passed = w.now
			w.say("%s passes its checks", r.Name)
			for i := range w.nodes {
				w.nodes[i].Frail = w.nodes[i].Frail && w.nodes[i].Name != r.Node
			}
		}
	})
}

// unproven leaves a frail node alone for a while, as the daemon does.
func (w *world) unproven(r *Runner) {
	for _, n := range w.nodes {
		if n.Name == r.Node && n.Frail {
			w.holds = append(w.holds, Hold{Node: n.Name, Until: w.now.Add(holdFor), Reason: "node " + n.Name + " fails: " + r.Fault})
		}
	}
}

// fated is what becomes of an action by the runner's version, if that says.
func (w *world) versioned(k Kind, r *Runner) (fate, bool) {
	how, ok := w.rolls.broken[r.Template.String()+" "+k.String()]
	return how, ok
}

// setRolling plays "rolling a smoke=1 canary=5,1 canary=20,0,25 bake=1h …":
// roll-outs are decided from now on, and a pool goes through these stages.
func (p *player) setRolling(words []string) error {
	p.rolls.on = true
	i := slices.IndexFunc(p.want.Pools, func(q Pool) bool { return q.Name == words[0] })
	if i < 0 {
		return fmt.Errorf("no such pool")
	}
	q := &p.want.Pools[i]
	q.Roll = Rolling{Wait: time.Minute}
	return pairs(words[1:], func(key, v string) error {
		switch key {
		case "smoke":
			q.Roll.Smoke = number(v)
		case "canary":
			var n [3]int
			for i, s := range strings.Split(v, ",") {
				n[i] = number(s)
			}
			q.Roll.Canary = append(q.Roll.Canary, Canary{Jobs: n[0], AtOnce: n[1], Percent: n[2]})
		case "bake":
			q.Roll.Bake = span(v)
		case "failures":
			q.Roll.MaxFailures = number(v)
		case "slower":
			q.Roll.MaxSlower = number(v)
		case "deadline":
			q.Roll.Deadline = span(v)
		case "window":
			q.Roll.Windows = append(q.Roll.Windows, hoursOf(v))
		case "on-failure":
			q.Roll.Pause = v == "pause"
		case "follow":
			c, err := ParseConstraint(strings.ReplaceAll(v, "_", " "))
			q.Follow = c
			return err
		case "replicas":
			q.Replicas = number(v)
		default:
			return fmt.Errorf("no such key")
		}
		return nil
	})
}

// setBroken plays "broken ubuntu@2 launch hangs", "broken ubuntu@2 mended".
func (p *player) setBroken(words []string) error {
	if words[1] == "mended" {
		for k := range p.rolls.broken {
			if strings.HasPrefix(k, words[0]+" ") {
				delete(p.rolls.broken, k)
			}
		}
		return nil
	}
	how, ok := fates[words[2]]
	if !ok {
		return fmt.Errorf("no such fate")
	}
	if p.rolls.broken == nil {
		p.rolls.broken = map[string]fate{}
	}
	p.rolls.broken[words[0]+" "+words[1]] = how
	return nil
}

// setListen plays "listens ubuntu@2 9s": how long runners of a version take.
func (p *player) setListen(words []string) error {
	if p.rolls.listen == nil {
		p.rolls.listen = map[Ref]time.Duration{}
	}
	p.rolls.listen[ref(words[0])] = span(words[1])
	return nil
}

// setOrder plays "order a pause", "order a retry [2]": what a person asks for.
func (p *player) setOrder(words []string) error {
	i := slices.IndexFunc(p.rolls.state, func(r Rollout) bool { return r.Pool == words[0] })
	if i < 0 {
		return fmt.Errorf("no such roll-out")
	}
	r := p.rolls.state[i]
	var err error
	switch words[1] {
	case "pause":
		r, err = r.Pause(p.now, "asked for")
	case "resume":
		r, err = r.Continue(p.now, "asked for")
	case "promote":
		r, err = r.Promote(p.now, "asked for")
	case "abort":
		r, err = r.Abort(p.now, "asked for")
	case "retry":
		r, err = r.Retry(p.now, strings.Join(words[2:], ""))
	}
	if err != nil {
		p.out = append(p.out, mark+err.Error())
		return nil
	}
	p.rolls.state[i] = r
	p.say("pool %s: %s", r.Pool, stageText(r))
	return nil
}

// sayRollout plays "rollout a".
func (p *player) sayRollout(words []string) error {
	for _, r := range p.rolls.state {
		if r.Pool == words[0] {
			p.out = append(p.out, fmt.Sprintf("%s%s; %d booted, %d jobs, %d failed", mark, stageText(r), r.Trial.Boots, r.Trial.Jobs, r.Trial.Failures))
			if r.Note != "" {
				p.out = append(p.out, mark+"note: "+r.Note)
			}
			if !r.Opens.IsZero() {
				p.out = append(p.out, mark+"its window opens at "+clock(r.Opens))
			}
			for _, v := range r.Bad {
				p.out = append(p.out, fmt.Sprintf("%sbad: %s: %s", mark, v.Version, v.Reason))
			}
		}
	}
	return nil
}

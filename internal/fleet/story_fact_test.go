package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// setJob plays "job 1 queued linux,x64 [repo=…]", "job 1-3 queued linux",
// "job 1 in_progress on a1", "job 1 completed [cancelled]".
func (p *player) setJob(words []string) error {
	from, to, many := strings.Cut(words[0], "-")
	last := number(from)
	if many {
		last = number(to)
	}
	for id := number(from); id <= last; id++ {
		if err := p.oneJob(JobID(id), words[1:]); err != nil {
			return err
		}
	}
	return nil
}

func (p *player) oneJob(id JobID, words []string) error {
	status, ok := ParseStatus(words[0])
	if !ok {
		return fmt.Errorf("no such status")
	}
	have := p.jobs[id]
	if have == nil {
		have = &Job{ID: id, Status: status, Repo: "acme/app", Created: p.now.Add(time.Duration(id))}
		p.jobs[id] = have
	} else if have.Status > status {
		return nil // as Job.Merge has it
	}
	have.Status = status
	switch {
	case status <= Queued:
		have.Labels = strings.Split(words[1], ",")
		return have.setOrigin(words[2:])
	case status == InProgress && p.runners[words[2]] == nil:
		have.Runner, have.Started = words[2], p.now
	case status == InProgress:
		p.takes(p.runners[words[2]], have)
	default:
		p.ends(have, strings.Join(words[1:], " "))
	}
	return nil
}

// setOrigin plays "public", "doubt", "fork", "repo=acme/app", "event=push" and
// "file=ci.yml@main": where a job's code comes from.
func (j *Job) setOrigin(words []string) error {
	j.Origin = Origin{}
	for _, w := range words {
		key, v, _ := strings.Cut(w, "=")
		switch key {
		case "public":
			j.Origin.Public = true
		case "doubt":
			j.Origin.Doubt = true
		case "fork":
			j.Origin.Fork = true
		case "repo":
			j.Repo = v
		case "event":
			j.Origin.Event = v
		case "file":
			j.Origin.File, j.Origin.Branch, _ = strings.Cut(".github/workflows/"+v, "@")
		default:
			return fmt.Errorf("no such origin: %s", w)
		}
	}
	return nil
}

// setRunner plays "runner a1 key=value…": what is seen of a runner changes, or
// of one that was never heard of.
func (p *player) setRunner(words []string) error {
	r := p.runners[words[0]]
	if r == nil {
		r = &Runner{Name: words[0], Scope: "acme", Node: "n1", VMID: 20900, Created: p.now, Storage: "local-zfs"}
		p.runners[r.Name] = r
	}
	return pairs(words[1:], func(key, v string) error {
		when := map[string]*time.Time{
			"cloned": &r.Cloned, "launched": &r.Launched, "started": &r.Started, "listened": &r.Listened,
			"took": &r.Took, "ended": &r.Ended, "spent": &r.Spent, "removed": &r.Removed, "failed": &r.Failed,
		}[key]
		switch {
		case when != nil && v == "never":
			*when = time.Time{}
		case when != nil:
			*when = p.now
		case key == "container":
			r.Container = Container(max(0, slices.Index(containerNames[:], v)))
		case key == "registration":
			r.Registration = Registration(max(0, slices.Index(registrationNames[:], v)))
		case key == "exit":
			r.Exit = number(v)
		case key == "retry":
			r.Retry = p.begin.Add(span(v))
		case key == "drift":
			r.Drift = strings.ReplaceAll(v, "_", " ")
		case key == "pool":
			r.Pool = v
		case key == "node":
			r.Node = v
		case key == "template":
			r.Template = ref(v)
		case key == "cause":
			r.Cause = strings.ReplaceAll(v, "_", " ")
		default:
			return fmt.Errorf("no such key")
		}
		return nil
	})
}

var fates = map[string]fate{"well": well, "fails": fails, "halves": halves, "hangs": hangs, "refused": refused}

// setFate plays "next clone fails".
func (p *player) setFate(words []string) error {
	kind := slices.Index(kindNames[:], words[0])
	how, ok := fates[words[1]]
	if kind < 0 || !ok {
		return fmt.Errorf("no such fate")
	}
	p.fates = append(p.fates, fated{Kind(kind), how})
	return nil
}

// setHold plays "hold clone pool=a until=30s reason".
func (p *player) setHold(words []string) error {
	h := Hold{Kind: Kind(max(0, slices.Index(kindNames[:], words[0]))), Reason: words[len(words)-1]}
	err := pairs(words[1:len(words)-1], func(key, v string) error {
		switch key {
		case "pool":
			h.Pool = v
		case "node":
			h.Node = v
		case "scope":
			h.Scope = Scope(v)
		case "until":
			h.Until = p.begin.Add(span(v))
		default:
			return fmt.Errorf("no such key")
		}
		return nil
	})
	p.holds = append(p.holds, h)
	return err
}

// sayWhy plays "explain 1".
func (p *player) sayWhy(words []string) error {
	p.out = append(p.out, mark+Explain(p.want, p.observed(), p.now, JobID(number(words[0]))))
	return nil
}

// sayBlocked plays "blocked": the jobs that wait, and why.
func (p *player) sayBlocked([]string) error {
	for _, b := range Blocked(p.want, p.observed(), p.now) {
		p.out = append(p.out, fmt.Sprintf("%sjob %d: %s", mark, b.Job.ID, b.Reason))
	}
	return nil
}

// crash plays the daemon's end and new start: it no longer knows of the actions
// under way, nor do they end.
func (p *player) crash([]string) error {
	names := slices.SortedFunc(maps.Keys(p.runners), cmp.Compare)
	for _, name := range names {
		p.runners[name].Pending = None
	}
	return nil
}

// secretly plays "secretly a1 runs 2": what nobody has heard of yet.
func (p *player) secretly(words []string) error {
	p.running[words[0]] = JobID(number(words[2]))
	return nil
}

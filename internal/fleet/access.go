package fleet

import (
	"fmt"
	"slices"
	"strings"
)

// Origin is where a job's code comes from.
type Origin struct {
	Public bool   `json:"public,omitempty"` // anyone can read its repository
	Doubt  bool   `json:"doubt,omitempty"`  // whether it is a fork's is not known yet
	Fork   bool   `json:"fork,omitempty"`   // it is code of a fork, as in a pull request of a stranger
	Event  string `json:"event,omitempty"`  // what started the run, "push"; empty: not known
	File   string `json:"file,omitempty"`   // of the workflow, ".github/workflows/ci.yml"; empty: not known
	Branch string `json:"branch,omitempty"` // the head branch
	Commit string `json:"commit,omitempty"` // the head commit
}

// merge adds what another observation says. Who says that the repository is
// public, or the code a fork's, is believed.
func (o Origin) merge(p Origin) Origin {
	return Origin{
		Public: o.Public || p.Public, Doubt: o.Doubt && p.Doubt, Fork: o.Fork || p.Fork,
		Event: max(o.Event, p.Event), File: max(o.File, p.File),
		Branch: max(o.Branch, p.Branch), Commit: max(o.Commit, p.Commit),
	}
}

// key adds to a key of demand what access rules go by.
func (o *Origin) key(key []byte) []byte {
	for _, yes := range []bool{o.Public, o.Doubt, o.Fork} {
		if yes {
			key = append(key, 1)
		} else {
			key = append(key, 0)
		}
	}
	for _, text := range []string{o.Event, o.File, o.Branch} {
		key = append(append(key, text...), 0)
	}
	return key
}

// Access says whose jobs a pool runs. The zero value is those of private
// repositories, but for the code of forks: runners are throw-away, and yet
// they stand in the operator's network.
//
// It bounds what dayfly does. GitHub gives a job to any runner that has its
// labels, so that a repository which must never reach a pool is kept away by a
// scope or runner group that does not cover it.
type Access struct {
	Repos     []string // patterns such as "acme/*"; empty: all of the scope
	Workflows []string // patterns of files, such as "*.yml" or ".github/workflows/*.yml@main"; empty: all
	Events    []string // such as "push"; empty: all
	Public    bool     // jobs of public repositories as well
	Forks     bool     // code of forks as well
}

// Refuses says why the pool does not run a job that fits its scope and labels;
// it is empty when the pool does. When that is not known yet, ask is true.
func (a Access) Refuses(j *Job) (why string, ask bool) {
	o := &j.Origin
	switch {
	case o.Public && !a.Public:
		return "does not run jobs of public repositories", false
	case len(a.Repos) > 0 && !matchesAny(a.Repos, strings.ToLower(j.Repo)):
		return "does not run jobs of " + j.Repo, false
	case o.Fork && !a.Forks:
		return "does not run the code of forks", false
	case o.Event != "" && len(a.Events) > 0 && !slices.Contains(a.Events, o.Event):
		return "does not run jobs of the event " + o.Event, false
	case o.File != "" && len(a.Workflows) > 0 && !a.runs(o):
		return fmt.Sprintf("does not run jobs of the workflow %s on %s", o.File, o.Branch), false
	case o.Doubt && !a.Forks:
		return "waits to learn whether the code is a fork's", true
	case o.Event == "" && len(a.Events) > 0, o.File == "" && len(a.Workflows) > 0:
		return "waits to learn which workflow and event the job is of", true
	}
	return "", false
}

// runs reports whether the workflow is one of the pool's.
func (a Access) runs(o *Origin) bool {
	for _, pattern := range a.Workflows {
		file, branch, onBranch := strings.Cut(pattern, "@")
		if !strings.Contains(file, "/") {
			file = ".github/workflows/" + file
		}
		if matches(file, o.File) && (!onBranch || matches(branch, o.Branch)) {
			return true
		}
	}
	return false
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(strings.ToLower(p), name) })
}

// matches reports whether a pattern fits a name. In it * stands for anything
// but a slash, and ? for one character but a slash. Only the last star is ever
// tried again: what one before it could take besides, the last one can as well,
// and a slash between them is the first one behind. So it takes no longer than
// the product of the lengths.
func matches(pattern, name string) bool {
	p, n, star, taken := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, taken = p, n
			p++
		case p < len(pattern) && (pattern[p] == name[n] || pattern[p] == '?' && name[n] != '/'):
			p++
			n++
		case star >= 0 && name[taken] != '/':
			taken++
			p, n = star+1, taken
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// Takes reports whether a job may run on the pool's runners.
func (p *Pool) Takes(j *Job) bool {
	if !p.Serves(j.Repo, j.Labels) {
		return false
	}
	why, _ := p.Access.Refuses(j)
	return why == ""
}

// Doubtful lists the queued jobs of which more must be known before a pool may
// run them.
func Doubtful(want Desired, jobs []Job) []Job {
	var list []Job
	for i := range jobs {
		j := &jobs[i]
		if j.Status != Queued {
			continue
		}
		for k := range want.Pools {
			if _, ask := want.Pools[k].Access.Refuses(j); ask && want.Pools[k].Serves(j.Repo, j.Labels) {
				list = append(list, *j)
				break
			}
		}
	}
	return list
}

// RefusedBy names the pools whose access rules alone keep a job from their
// runners, and says why; it is empty when another pool runs it, or may yet.
func RefusedBy(want Desired, j *Job) string {
	refuses := func(q Pool) bool { why, _ := q.Access.Refuses(j); return why != "" }
	if !slices.ContainsFunc(want.Pools, refuses) {
		return "" // the usual case, at the price of a glance
	}
	var whys []string
	for i := range want.Pools {
		q := &want.Pools[i]
		if !q.Serves(j.Repo, j.Labels) {
			continue
		}
		why, ask := q.Access.Refuses(j)
		if why == "" || ask {
			return ""
		}
		whys = append(whys, fmt.Sprintf("pool %s %s", q.Name, why))
	}
	return strings.Join(whys, "; ")
}

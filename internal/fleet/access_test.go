package fleet

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPatterns(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "", false}, {"a", "a", true}, {"*", "", true}, {"*", "abc", true}, {"*", "a/b", false},
		{"a*c", "abc", true}, {"a*c", "ac", true}, {"a*c", "ab", false}, {"a*b*c", "aXbYc", true}, {"*.yml", "ci.yml", true},
		{"a/*/c", "a/b/c", true}, {"a/*/c", "a/b/b/c", false}, {"?", "a", true}, {"?", "/", false}, {"??", "a", false}, {"**", "abc", true},
		{"*/*b", "a/xb", true}, {"*a/b", "xa/b", true}, {"*a*/b", "aXa/c", false}, {"*a*a*a*b", strings.Repeat("a", 5000), false},
		{"[ab]", "a", false}, {"[ab]", "[ab]", true},
	} {
		if got := matches(tt.pattern, tt.name); got != tt.want {
			t.Errorf("%q fits %q: %v, want %v", tt.pattern, tt.name, got, tt.want)
		}
	}
}

func TestAccessRules(t *testing.T) {
	known := Origin{Event: "push", File: ".github/workflows/ci.yml", Branch: "main"}
	with := func(change func(*Origin)) Origin { o := known; change(&o); return o }
	for name, tt := range map[string]struct {
		access Access
		origin Origin
		want   string // part of why; empty: runs
		ask    bool
	}{
		"private":                       {Access{}, known, "", false},
		"nothing known":                 {Access{}, Origin{}, "", false},
		"public":                        {Access{}, with(func(o *Origin) { o.Public = true }), "public", false},
		"public, allowed":               {Access{Public: true}, with(func(o *Origin) { o.Public = true }), "", false},
		"public fork, only public":      {Access{Public: true}, with(func(o *Origin) { o.Public, o.Fork = true, true }), "forks", false},
		"public fork, only forks":       {Access{Forks: true}, with(func(o *Origin) { o.Public, o.Fork = true, true }), "public", false},
		"public doubt is no doubt":      {Access{}, with(func(o *Origin) { o.Public, o.Doubt = true, true }), "public", false},
		"doubt":                         {Access{}, with(func(o *Origin) { o.Doubt = true }), "learn", true},
		"doubt that does not matter":    {Access{Forks: true}, with(func(o *Origin) { o.Doubt = true }), "", false},
		"repository, whatever its case": {Access{Repos: []string{"ACME/*"}}, known, "", false},
		"repository of others":          {Access{Repos: []string{"acme/lib"}}, known, "acme/App", false},
		"pattern does not cross owners": {Access{Repos: []string{"*"}}, known, "acme/App", false},
		"event":                         {Access{Events: []string{"push"}}, known, "", false},
		"other event":                   {Access{Events: []string{"schedule"}}, known, "event push", false},
		"unknown event":                 {Access{Events: []string{"push"}}, Origin{}, "learn", true},
		"workflow":                      {Access{Workflows: []string{"ci.yml"}}, known, "", false},
		"workflow by path":              {Access{Workflows: []string{".github/workflows/*@ma*"}}, known, "", false},
		"workflow of another branch":    {Access{Workflows: []string{"ci.yml@release/*"}}, known, "ci.yml on main", false},
		"unknown workflow":              {Access{Workflows: []string{"ci.yml"}}, Origin{}, "learn", true},
		"pattern that is none":          {Access{Repos: []string{"[acme/*"}}, known, "acme/App", false},
	} {
		j := Job{ID: 1, Repo: "acme/App", Labels: []string{"linux"}, Status: Queued, Origin: tt.origin}
		why, ask := tt.access.Refuses(&j)
		if (why == "") != (tt.want == "") || !strings.Contains(why, tt.want) || ask != tt.ask {
			t.Errorf("%s: got %q (ask %v), want %q (ask %v)", name, why, ask, tt.want, tt.ask)
		}
		want := Desired{Pools: []Pool{{Name: "a", Scope: "acme", Labels: []string{"linux"}, Access: tt.access}}}
		if got := len(Doubtful(want, []Job{j})) == 1; got != tt.ask {
			t.Errorf("%s: doubtful %v, want %v", name, got, tt.ask)
		}
		if got := RefusedBy(want, &j); (got != "") != (tt.want != "" && !tt.ask) {
			t.Errorf("%s: refused by %q", name, got)
		}
	}
}

// TestNothingStartsForRefusedJobs: whatever is known of a job, and whenever, no
// runner is made or launched for one that every pool refuses.
func TestNothingStartsForRefusedJobs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		flag := func(name string) bool { return rapid.Bool().Draw(t, name) }
		pool := Pool{
			Name: "a", Scope: "acme", Labels: []string{"linux"}, Template: Ref{Family: "ubuntu"}, Max: 4,
			Access: Access{Public: flag("public"), Forks: flag("forks")},
		}
		if flag("events") {
			pool.Access.Events = []string{"push"}
		}
		have := Observed{
			Nodes:     []Node{{Name: "n1", Online: true}},
			Templates: []Template{{Ref: Ref{"ubuntu", "1"}, Node: "n1", VMID: 9001}},
			Jobs: []Job{{
				ID: 1, Repo: "acme/app", Labels: []string{"linux"}, Status: Queued, Created: noon,
				Origin: Origin{Public: flag("is public"), Doubt: flag("doubt"), Fork: flag("fork"), Event: rapid.SampledFrom([]string{"", "push", "schedule"}).Draw(t, "event")},
			}},
		}
		if flag("spare") {
			have.Runners = []Runner{{Name: "a1", Pool: "a", Scope: "acme", Node: "n1", VMID: 90001, Template: Ref{"ubuntu", "1"}, Container: Stopped, Created: noon, Cloned: noon}}
		}
		pool.Spare = len(have.Runners)
		want := Desired{Pools: []Pool{pool}}
		why, _ := pool.Access.Refuses(&have.Jobs[0])
		actions, _ := Plan(want, have, noon)
		started := 0
		for _, a := range actions {
			if a.Kind == Clone || a.Kind == Launch {
				started++
			}
		}
		if (started > 0) != (why == "") {
			t.Fatalf("%d runners start, and the pool says %q: %v", started, why, actions)
		}
		if why != "" && !strings.Contains(Explain(want, have, noon, 1), why) {
			t.Fatalf("explained as %q, not as %q", Explain(want, have, noon, 1), why)
		}
	})
}

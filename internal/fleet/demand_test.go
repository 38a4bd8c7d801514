package fleet

import "testing"

// TestOverlappingLabelSetsShareRunnersAtBest: one runner suits both jobs, the
// other only the first; nothing more is made.
func TestOverlappingLabelSetsShareRunnersAtBest(t *testing.T) {
	pool := func(name string, scope Scope, labels ...string) Pool {
		return Pool{Name: name, Scope: scope, Labels: labels, Template: Ref{Family: "ubuntu"}, Max: 5}
	}
	listening := func(name, pool string, scope Scope) Runner {
		return Runner{Name: name, Pool: pool, Scope: scope, Node: "n1", Container: Running, Registration: Online, Listened: noon, Started: noon}
	}
	want := Desired{Pools: []Pool{
		pool("a", "acme", "linux", "gpu"), pool("b", "acme", "linux", "arm", "big"), pool("c", "acme", "gpu", "arm", "huge", "x"),
	}}
	have := Observed{
		Nodes:     []Node{{Name: "n1", Online: true}},
		Templates: []Template{{Ref: Ref{"ubuntu", "1"}, Node: "n1", VMID: 9001}},
		Runners:   []Runner{listening("a1", "a", "acme"), listening("b1", "b", "acme")},
		Jobs: []Job{
			{ID: 1, Repo: "acme/app", Labels: []string{"linux"}, Status: Queued, Created: noon}, // a or b
			{ID: 2, Repo: "acme/app", Labels: []string{"gpu"}, Status: Queued, Created: noon},   // a or c
		},
	}
	if actions, _ := Plan(want, have, noon); len(actions) > 0 {
		t.Errorf("planned %v, want nothing: b1 takes job 1 and a1 takes job 2", actions)
	}
}

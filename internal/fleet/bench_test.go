package fleet

import (
	"fmt"
	"testing"
	"time"
)

// crowd is a world of n runners in all phases and n jobs, queued and running,
// for ten pools on ten nodes.
func crowd(n int) (Desired, Observed) {
	want := Desired{Limits: Limits{Max: 2 * n, PerNode: n, NodeTasks: 8, StoreTasks: 4}}
	have := Observed{Evidence: map[Scope]Evidence{"acme": {noon, noon}}}
	for i := range 10 {
		name, node := fmt.Sprintf("pool%d", i), fmt.Sprintf("n%d", i)
		want.Pools = append(want.Pools, Pool{
			Name: name, Scope: "acme", Labels: []string{"self-hosted", "linux", "x64", name}, Template: Ref{Family: "ubuntu"},
			Max: n, Spare: 10, Timeouts: fallback,
		})
		have.Nodes = append(have.Nodes, Node{Name: node, Online: true})
		have.Templates = append(have.Templates, Template{Ref: Ref{"ubuntu", "1"}, Node: node, VMID: VMID(9000 + i), Storage: "zfs"})
		have.Holds = append(have.Holds, Hold{Kind: Clone, Pool: "other", Node: node, Until: noon.Add(time.Hour), Reason: "broken"})
	}
	ago := func(s int) time.Time { return noon.Add(-time.Duration(s) * time.Second) }
	for i := range n {
		r := Runner{
			Name: fmt.Sprintf("r%d", i), Pool: want.Pools[i%10].Name, Scope: "acme", Node: have.Nodes[i/10%10].Name, VMID: VMID(20000 + i),
			Template: Ref{"ubuntu", "1"}, Storage: "zfs", Container: Stopped, Created: ago(100), Cloned: ago(90),
		}
		if i%5 > 0 { // a fifth are spares
			r.Launched, r.Started, r.Container, r.Registration = ago(80), ago(30), Running, Offline
		}
		if i%5 > 1 {
			r.Listened, r.Registration = ago(20), Online
		}
		if i%5 > 2 {
			r.Took, r.Job = ago(10), JobID(n+i)
		}
		if i%5 > 3 {
			r.Ended, r.Container, r.Registration = ago(1), Stopped, Unregistered
		}
		have.Runners = append(have.Runners, r)
		j := Job{ID: JobID(i + 1), Repo: fmt.Sprintf("acme/app%d", i%50), Labels: []string{"linux", want.Pools[i%10].Name}, Status: Queued, Created: ago(i % 1000)}
		if i%5 == 3 {
			j.Status, j.Runner = InProgress, r.Name
		}
		have.Jobs = append(have.Jobs, j)
	}
	return want, have
}

func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		want, have := crowd(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Plan(want, have, noon)
			}
		})
	}
}

// BenchmarkPlanAtWorst is the same with what makes a plan slow: every job has
// labels of its own, limits keep them waiting, and stale spares are in the way.
func BenchmarkPlanAtWorst(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		want, have := crowd(n)
		want.Limits.Max = n
		for i := range want.Pools {
			want.Pools[i].Labels = append(want.Pools[i].Labels, "extra")
		}
		for i := range have.Jobs {
			have.Jobs[i].Repo = fmt.Sprintf("acme/app%d", i)
		}
		for i := range have.Runners {
			if i%2 == 0 {
				have.Runners[i].Template.Version = "0"
			}
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Plan(want, have, noon)
			}
		})
	}
}

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// plan measures fleet.Plan with as many jobs as runners. The baseline is what
// linear growth gives: ten times what a tenth takes.
func (b *bench) plan(ctx context.Context) (results, error) {
	got := results{}
	smaller := 0.0
	for _, n := range []int{10, 100, 1000, 10000} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		want, have, now := crowd(n)
		var took sample
		for end := time.Now().Add(b.size.planning); len(took) < 5 || time.Now().Before(end); {
			began := time.Now()
			fleet.Plan(want, have, now)
			took = append(took, time.Since(began))
		}
		if n > 10 {
			got[fmt.Sprintf("plan_%d_ms", n)] = measured{took.median(), 10 * smaller, fmt.Sprintf("ten times %d runners and jobs", n/10)}
		}
		smaller = took.median()
	}
	return got, nil
}

// crowd is n runners in all phases and n jobs, queued and running, for ten
// pools on ten nodes.
func crowd(n int) (fleet.Desired, fleet.Observed, time.Time) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	want := fleet.Desired{Limits: fleet.Limits{Max: 2 * n, PerNode: n, NodeTasks: 8, StoreTasks: 4}}
	have := fleet.Observed{Evidence: map[fleet.Scope]fleet.Evidence{org: {Jobs: now, Registrations: now}}}
	ref := fleet.Ref{Family: "ubuntu-24.04", Version: "2.335.1-1"}
	for i := range 10 {
		name, node := fmt.Sprintf("pool%d", i), fmt.Sprintf("pve%d", i)
		want.Pools = append(want.Pools, fleet.Pool{
			Name: name, Scope: org, Labels: append([]string{name}, labels...), Template: fleet.Ref{Family: ref.Family},
			Max: n, Spare: 10,
			Timeouts: fleet.Timeouts{Clone: time.Minute, Launch: time.Minute, Register: time.Minute, Idle: time.Minute, Job: time.Hour},
		})
		have.Nodes = append(have.Nodes, fleet.Node{Name: node, Online: true})
		have.Templates = append(have.Templates, fleet.Template{Ref: ref, Node: node, VMID: fleet.VMID(firstTemplate + i), Storage: "zfs"})
	}
	for i := range n {
		have.Runners = append(have.Runners, member(i, want.Pools[i%10].Name, have.Nodes[i/10%10].Name, ref, now))
		j := fleet.Job{
			ID: fleet.JobID(i + 1), Repo: fmt.Sprintf("%s/app%d", org, i%50), Labels: []string{"linux", want.Pools[i%10].Name},
			Status: fleet.Queued, Created: now.Add(-time.Duration(i%1000) * time.Second),
		}
		if i%5 == 3 {
			j.Status, j.Runner = fleet.InProgress, have.Runners[i].Name
		}
		have.Jobs = append(have.Jobs, j)
	}
	return want, have, now
}

// member is a runner: a fifth each are spare, launching, idle, busy and done.
func member(i int, pool, node string, ref fleet.Ref, now time.Time) fleet.Runner {
	ago := func(s int) time.Time { return now.Add(-time.Duration(s) * time.Second) }
	r := fleet.Runner{
		Name: fmt.Sprintf("r%d", i), Pool: pool, Scope: org, Node: node, VMID: fleet.VMID(20000 + i),
		Template: ref, Storage: "zfs", Container: fleet.Stopped, Created: ago(100), Cloned: ago(90),
	}
	if i%5 > 0 {
		r.Launched, r.Started, r.Container, r.Registration = ago(80), ago(30), fleet.Running, fleet.Offline
	}
	if i%5 > 1 {
		r.Listened, r.Registration = ago(20), fleet.Online
	}
	if i%5 > 2 {
		r.Took, r.Job = ago(10), fleet.JobID(i+1)
	}
	if i%5 > 3 {
		r.Ended, r.Container, r.Registration = ago(1), fleet.Stopped, fleet.Unregistered
	}
	return r
}

package fleet

import (
	"testing"
	"time"
)

// TestFirstStableVersion has the first look at a pool that nobody remembers:
// what its containers are of is stable, or else what is there for longest and
// may serve jobs. Newer versions are candidates.
func TestFirstStableVersion(t *testing.T) {
	of := func(v string) Ref { return Ref{"ubuntu", v} }
	old := Template{Ref: of("1"), Node: "n1", VMID: 9001, Outdated: "GitHub gives it no jobs"}
	for _, c := range []struct {
		name              string
		templates         []Template
		pin               string
		runners           []Runner
		stable, candidate string
	}{
		{"one version", versions(of("2")), "", nil, "2", ""},
		{"several", versions(of("4"), of("2"), of("3")), "", nil, "2", "4"},
		{"the oldest is outdated", append(versions(of("2"), of("3")), old), "", nil, "2", "3"},
		{"pinned", versions(of("2"), of("3"), of("4")), "3", nil, "3", ""},
		{"in use", versions(of("2"), of("3"), of("4")), "", []Runner{{Template: of("3"), Container: Stopped}}, "3", "4"},
		{"two in use", versions(of("2"), of("3"), of("4")), "", []Runner{{Template: of("4"), Container: Running}, {Template: of("3"), Container: Running}}, "3", "4"},
		{"the newest in use", versions(of("2"), of("3")), "", []Runner{{Template: of("3"), Container: Running}}, "3", ""},
		{"in use long ago", versions(of("2"), of("3")), "", []Runner{{Template: of("3"), Container: Absent}}, "2", "3"},
	} {
		for i := range c.runners {
			c.runners[i].Pool = "a"
		}
		want := Desired{Pools: []Pool{{Name: "a", Template: Ref{"ubuntu", c.pin}}}}
		got, _ := Roll(want, Observed{Templates: c.templates, Runners: c.runners}, time.Unix(1e9, 0))
		if len(got) != 1 || got[0].Stable.Version != c.stable || got[0].Candidate.Version != c.candidate {
			t.Errorf("%s: %+v, want stable %s and candidate %q", c.name, got, c.stable, c.candidate)
		}
	}
}

// TestNodeThatIsAwayHoldsNoRollBackUp: what it has of the candidate is seen to
// when it is back; a newer version must not wait for that.
func TestNodeThatIsAwayHoldsNoRollBackUp(t *testing.T) {
	one, two := Ref{"ubuntu", "1"}, Ref{"ubuntu", "2"}
	want := Desired{Pools: []Pool{{Name: "a", Template: Ref{Family: "ubuntu"}}}}
	for container, stage := range map[Container]Stage{Unseen: Settled, Stopped: RollingBack} {
		have := Observed{
			Templates: versions(one, two),
			Runners:   []Runner{{Name: "r", Pool: "a", Node: "n2", Template: two, Container: container, Cloned: noon}},
			Rollouts:  []Rollout{{Pool: "a", Stable: one, Candidate: two, Stage: RollingBack, Bad: []Verdict{{Version: two}}, Mark: noon}},
		}
		if got, _ := Roll(want, have, noon); got[0].Stage != stage {
			t.Errorf("with a spare that is %s, it is %s, want %s", container, got[0].Stage, stage)
		}
	}
}

func versions(refs ...Ref) []Template {
	var list []Template
	for i, ref := range refs {
		list = append(list, Template{Ref: ref, Node: "n1", VMID: VMID(9100 + i)})
	}
	return list
}

package fleet

import (
	"strings"
	"testing"
)

// TestExplainJobs: what the plan says of queued jobs is in the stories.
func TestExplainJobs(t *testing.T) {
	have := Observed{
		Jobs: []Job{
			{ID: 1, Status: Waiting}, {ID: 2, Status: InProgress, Runner: "a1"}, {ID: 3, Status: InProgress, Runner: "theirs"},
			{ID: 4, Status: Completed, Conclusion: "cancelled"},
		},
		Runners: []Runner{{Name: "a1", VMID: 20001, Node: "n1"}},
	}
	for id, want := range map[JobID]string{
		1: "it waits for an approval or for another job: that is no demand yet",
		2: "it runs on a1, container 20001 on n1",
		3: "it runs on theirs, which is not ours",
		4: "it is over: cancelled",
		5: "job 5 is not known, or is over",
	} {
		if got := Explain(Desired{}, have, noon, id); got != want {
			t.Errorf("job %d: %s, want %s", id, got, want)
		}
	}
}

// TestASecondPoolOfTheSameNameIsLeftOut: or each would undo what the other does.
func TestASecondPoolOfTheSameNameIsLeftOut(t *testing.T) {
	q := Pool{Name: "a", Scope: "acme", Template: Ref{Family: "ubuntu"}, Spare: 1, Max: 5}
	more := q
	more.Spare = 3
	have := Observed{Nodes: []Node{{Name: "n1", Online: true}}}
	for i := range VMID(5) {
		have.Templates = append(have.Templates, Template{Ref: Ref{"ubuntu", "1"}, Node: "n1", VMID: 9000 + i})
	}
	actions, _ := Plan(Desired{Pools: []Pool{q, more}}, have, noon)
	if len(actions) != 1 || !strings.HasSuffix(actions[0].Reason, "spare 1 of 1") {
		t.Errorf("planned %v, want one clone", actions)
	}
}

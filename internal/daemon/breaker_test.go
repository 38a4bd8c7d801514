package daemon

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// TestNodeThatFailsIsLeftAlone: three failures in a row, of whatever pools, and
// then one task at a time until something goes well.
func TestNodeThatFailsIsLeftAlone(t *testing.T) {
	d := still(t)
	s := &d.state
	d.nodesSeen(s, []fleet.Node{{Name: "a", Online: true}})
	s.nodes["a"].listed = time.Now()
	frail := func() bool { return d.observed().Nodes[0].Frail }
	why := errors.New("lxc-start exited with 1")
	for range tripsMost - 1 {
		d.tripped("a", fleet.Launch, why)
	}
	if len(s.holds) != 0 || frail() {
		t.Fatalf("after %d failures: holds %v, frail %t", tripsMost-1, s.holds, frail())
	}
	d.tripped("a", fleet.Launch, why)
	h, held := s.holds[subject{node: "a"}]
	if wait := time.Until(h.Until); !held || h.Kind != fleet.None || h.Pool != "" || wait < 40*time.Second || wait > time.Minute {
		t.Errorf("after %d failures: hold %+v, want one of every action for a minute", tripsMost, h)
	}
	for range 10 {
		d.tripped("a", fleet.Launch, why)
	}
	if wait := time.Until(s.holds[subject{node: "a"}].Until); wait < 11*time.Minute || wait > 15*time.Minute {
		t.Errorf("after many failures it is left alone for %s, want up to 15 minutes", wait)
	}
	if !frail() {
		t.Error("it is not tried with one task at a time")
	}
	d.mended("a")
	if len(s.holds) != 0 || frail() {
		t.Errorf("after a success: holds %v, frail %t", s.holds, frail())
	}
}

func TestWhatIsNotTheNodesFaultDoesNotCount(t *testing.T) {
	for _, err := range []error{fleet.ErrDenied, fleet.ErrLocked, fleet.ErrInvalid, fleet.ErrExists, errUnwritten} {
		if breaks(err) {
			t.Errorf("%v counts against the node", err)
		}
	}
	if !breaks(errors.New("lxc-start exited with 1")) || !breaks(fleet.ErrUnavailable) {
		t.Error("what the node does not do, does not count against it")
	}
}

// TestCloneSaysNothingOfStartsThatFail: a node that clones well and starts
// nothing is left alone all the same.
func TestCloneSaysNothingOfStartsThatFail(t *testing.T) {
	d := still(t)
	d.nodesSeen(&d.state, []fleet.Node{{Name: "a", Online: true}})
	n := d.state.nodes["a"]
	why := errors.New("lxc-start exited with 1")
	for range tripsMost {
		d.tripped("a", fleet.Clone, why)
		d.wentWell("a", fleet.Clone)
	}
	if n.trips != 0 {
		t.Errorf("clones that failed and went well in turn: %d failures in a row, want none", n.trips)
	}
	for range tripsMost {
		d.wentWell("a", fleet.Clone)
		d.tripped("a", fleet.Launch, why)
	}
	if n.trips != tripsMost || len(d.state.holds) != 1 {
		t.Errorf("starts that failed after clones that went well: %d failures in a row, holds %v, want %d and one", n.trips, d.state.holds, tripsMost)
	}
	d.wentWell("a", fleet.Launch)
	if n.trips != 0 || len(d.state.holds) != 0 {
		t.Errorf("after a start: %d failures in a row, holds %v, want none", n.trips, d.state.holds)
	}
}

// TestOnlyASmokeBootClosesTheBreaker: what is under way when a node is left
// alone may still end well, which proves nothing.
func TestOnlyASmokeBootClosesTheBreaker(t *testing.T) {
	d := still(t)
	s := &d.state
	d.nodesSeen(s, []fleet.Node{{Name: "a", Online: true}})
	n := s.nodes["a"]
	n.listed = time.Now()
	n.templates = []fleet.Template{{Ref: fleet.Ref{Family: "ubuntu", Version: "1"}, Node: "a", VMID: 9000}}
	s.desired = fleet.Desired{Pools: []fleet.Pool{{
		Name: "linux", Scope: "acme", Template: fleet.Ref{Family: "ubuntu"}, Max: 2, Roll: fleet.Rolling{Smoke: 1},
	}}}
	for range tripsMost {
		d.tripped("a", fleet.Launch, errors.New("lxc-start exited with 1"))
	}
	d.wentWell("a", fleet.Launch)
	if n.trips != tripsMost || !s.holds[subject{node: "a"}].proof {
		t.Errorf("after a launch that was under way: %d failures in a row, want %d: %+v", n.trips, tripsMost, s.holds)
	}
	boot := func(name string) {
		s.add(&runner{Runner: fleet.Runner{Name: name, Pool: "linux", Node: "a", Container: fleet.Running, Smoked: time.Now(), Started: time.Now()}})
	}
	boot("bad")
	d.proved(s, "bad", proxmox.SmokeResult{Done: true, Faults: []string{"GitHub cannot be reached"}})
	h := s.holds[subject{node: "a"}]
	if wait := time.Until(h.Until); n.trips != tripsMost+1 || wait < 80*time.Second || !strings.Contains(h.Reason, "GitHub cannot be reached") {
		t.Errorf("after a smoke boot that failed: %d failures in a row, left alone for %s: %s", n.trips, wait, h.Reason)
	}
	boot("good")
	d.proved(s, "good", proxmox.SmokeResult{Done: true})
	if n.trips != 0 || len(s.holds) != 0 {
		t.Errorf("after a smoke boot that passed: %d failures in a row, holds %v", n.trips, s.holds)
	}
}

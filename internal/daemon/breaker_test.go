package daemon

import (
	"errors"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
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
		d.tripped("a", why)
	}
	if len(s.holds) != 0 || frail() {
		t.Fatalf("after %d failures: holds %v, frail %t", tripsMost-1, s.holds, frail())
	}
	d.tripped("a", why)
	h, held := s.holds[subject{node: "a"}]
	if wait := time.Until(h.Until); !held || h.Kind != fleet.None || h.Pool != "" || wait < 40*time.Second || wait > time.Minute {
		t.Errorf("after %d failures: hold %+v, want one of every action for a minute", tripsMost, h)
	}
	for range 10 {
		d.tripped("a", why)
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

package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/github"
	"github.com/dayfly-ci/dayfly/internal/journal"
	"github.com/dayfly-ci/dayfly/internal/pools"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// still is a daemon that does not run, for the facts that it applies.
func still(t *testing.T) *Daemon {
	t.Helper()
	j, err := journal.Open(t.Context(), filepath.Join(t.TempDir(), "journal.db"), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	d, err := New(Config{
		Proxmox: &proxmox.Client{}, GitHub: &github.Client{}, Journal: j, Source: pools.Dir(t.TempDir()),
		Key: fleet.NewSecret("canary-instance-key-0123456789abcdef"), First: 100, Last: 104,
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestNodeThatLeavesTheClusterTakesItsRunnersAlong(t *testing.T) {
	d := still(t)
	s := &d.state
	d.nodesSeen(s, []fleet.Node{{Name: "a", Online: true}, {Name: "b", Online: true}})
	if _, fresh := d.looks.containers.add("b"); !fresh {
		t.Fatal("node b had a look already")
	}
	s.nodes["a"].listed, s.nodes["b"].listed = time.Now(), time.Now()
	s.add(&runner{Runner: fleet.Runner{Name: "r", Node: "b", VMID: 100, Container: fleet.Running, Launched: time.Now(), Started: time.Now()}})
	d.trouble("node b", "node b: no answer", "")
	alone := []fleet.Node{{Name: "a", Online: true}}
	for range lostAfter - 1 {
		d.nodesSeen(s, alone)
	}
	if r := s.runners["r"]; r.Container != fleet.Unseen || s.nodes["b"] == nil || s.complete() {
		t.Errorf("missing %d times, the runner is %s: want it unseen", lostAfter-1, r.Container)
	}
	d.nodesSeen(s, nil) // no list at all says nothing
	d.nodesSeen(s, alone)
	if r := s.runners["r"]; r.Container != fleet.Absent || r.Ended.IsZero() {
		t.Errorf("missing %d times, the runner is %s, ended %v: want it absent and ended", lostAfter, r.Container, r.Ended)
	}
	if s.nodes["b"] != nil || len(d.looks.containers.names()) != 0 || len(s.troubles) != 0 || !s.complete() {
		t.Errorf("something of node b is left: %v %v", s.nodes["b"], s.troubles)
	}
}

func TestNodeWithWorkUnderWayIsKeptUntilItEnds(t *testing.T) {
	d := still(t)
	s := &d.state
	s.add(&runner{Runner: fleet.Runner{Name: "r", Node: "b", VMID: 100, Pending: fleet.Destroy, Container: fleet.Running}})
	for range lostAfter + 1 {
		d.nodesSeen(s, []fleet.Node{{Name: "a", Online: true}})
	}
	if s.nodes["b"] == nil {
		t.Error("node b is forgotten while an action on it is under way")
	}
	s.runners["r"].Pending = fleet.None
	d.nodesSeen(s, []fleet.Node{{Name: "a", Online: true}})
	if s.nodes["b"] != nil || s.runners["r"].Container != fleet.Absent {
		t.Error("node b is not forgotten")
	}
}

func TestVMIDsGoRoundAndCoolDown(t *testing.T) {
	d := still(t)
	s := &d.state
	now := time.Now()
	s.joins("a")
	s.nodes["a"].foreign = []proxmox.Foreign{{VMID: 101}}
	var got []fleet.VMID
	for {
		id, ok := s.pickVMID(100, 104, now, time.Minute)
		if !ok {
			break
		}
		got = append(got, id)
		s.cooling[id] = now
	}
	if want := []fleet.VMID{100, 102, 103, 104}; !slices.Equal(got, want) {
		t.Errorf("picked %v, want %v", got, want)
	}
	if id, ok := s.pickVMID(100, 104, now.Add(time.Minute), time.Minute); !ok || id != 100 {
		t.Errorf("picked %d %t once they are cool, want 100", id, ok)
	}
	if len(s.cooling) != 0 {
		t.Errorf("%d numbers are still kept", len(s.cooling))
	}
}

func TestHoldsOfPoolsThatAreGoneAndOfLongAgoEnd(t *testing.T) {
	d := still(t)
	s := &d.state
	s.desired.Pools = []fleet.Pool{{Name: "stays", Retry: fleet.Retry{Min: time.Second, Max: time.Minute}}}
	why := errors.New("no")
	for _, key := range []subject{
		{kind: fleet.Launch, pool: "stays"}, {kind: fleet.Clone, pool: "stays", node: "a"}, {kind: fleet.Clone, pool: "gone", node: "a"},
		{kind: fleet.Deregister, pool: "stays"}, {kind: fleet.Destroy, pool: "stays"},
	} {
		d.failed(key, why)
	}
	d.failed(subject{kind: fleet.Launch, pool: "stays", scope: "acme"}, &fleet.RateLimit{Until: time.Now().Add(time.Hour)})
	if len(s.holds) != 4 {
		t.Fatalf("%d holds, want 4: clean-up is never held back", len(s.holds))
	}
	s.forgetHolds(time.Now())
	if _, ok := s.holds[subject{kind: fleet.Clone, pool: "gone", node: "a"}]; ok || len(s.holds) != 3 {
		t.Errorf("holds: %v, want those of pool stays and of acme", s.holds)
	}
	s.forgetHolds(time.Now().Add(holdKept + time.Minute))
	if h, ok := s.holds[subject{kind: fleet.Launch, scope: "acme"}]; !ok || len(s.holds) != 1 {
		t.Errorf("holds: %v, want that of acme alone", h)
	}
}

func TestQuestionEndsWithItsContext(t *testing.T) {
	d := still(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Healthy(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a daemon that does not run yet answers %v", err)
	}
}

func TestBusyFlagCountsWhateverIsUnderWay(t *testing.T) {
	d := still(t)
	s := &d.state
	s.add(&runner{Runner: fleet.Runner{Name: "r", Scope: "acme", Pending: fleet.Deregister, Registration: fleet.Online, Container: fleet.Running}})
	d.registered(s, "acme", time.Now(), []github.Registration{{ID: 1, Name: "r", State: fleet.BusyFlag}})
	if r := s.runners["r"]; r.Took.IsZero() || r.Phase() != fleet.Busy {
		t.Errorf("the runner is %s, want it busy", r.Phase())
	}
	s.runners["r"].Took = time.Time{}
	d.registered(s, "acme", time.Now(), nil)
	if r := s.runners["r"]; r.Registration != fleet.Online {
		t.Errorf("the registration is %s though an action is under way", r.Registration)
	}
}

// A listing without a container that runs is a mistake, whoever made it. When
// the next one shows it, a job may still run in it.
func TestContainerThatAListingLeftOutIsNotOver(t *testing.T) {
	d := still(t)
	s := &d.state
	d.nodesSeen(s, []fleet.Node{{Name: "a", Online: true}})
	now := time.Now()
	s.add(&runner{Runner: fleet.Runner{
		Name: "r", Node: "a", VMID: 100, Container: fleet.Running, Cloned: now, Launched: now, Started: now, Listened: now, Took: now, Job: 7,
	}})
	d.listed(s, proxmox.Listing{Node: "a", AsOf: now.Add(time.Second)})
	if r := s.runners["r"]; r.Phase() != fleet.Gone {
		t.Fatalf("left out, the runner is %s, want it gone", r.Phase())
	}
	seen := []proxmox.Container{{Node: "a", VMID: 100, Name: "r", State: fleet.Running, Launched: true}}
	d.listed(s, proxmox.Listing{Node: "a", AsOf: now.Add(2 * time.Second), Owned: seen})
	if r := s.runners["r"]; r.Phase() != fleet.Busy || r.Cause != "" {
		t.Errorf("seen again, the runner is %s (%s), want it busy", r.Phase(), r.Cause)
	}
	d.ended(s.runners["r"], now)
	d.listed(s, proxmox.Listing{Node: "a", AsOf: now.Add(3 * time.Second), Owned: seen})
	if r := s.runners["r"]; r.Phase() != fleet.Done {
		t.Errorf("its job over, the runner is %s, want it done", r.Phase())
	}
}

// Between a commit and the next listing no job may get what the commit has done
// away with.
func TestChangeOfAPoolOutdatesItsContainersAtOnce(t *testing.T) {
	d := still(t)
	s := &d.state
	set := func(revision string, egress fleet.Policy) pools.Set {
		pool := func(name string, policy fleet.Policy) fleet.Pool {
			return fleet.Pool{Name: name, Scope: "acme", Labels: []string{name}, Max: 4, Egress: fleet.Egress{Policy: policy}}
		}
		return pools.Set{Revision: revision, Desired: fleet.Desired{Pools: []fleet.Pool{pool("linux", egress), pool("other", fleet.Everything)}}}
	}
	d.adopt(s, set("one", fleet.Everything))
	for name, pool := range map[string]string{"a": "linux", "b": "other"} {
		s.add(&runner{Runner: fleet.Runner{Name: name, Pool: pool, Container: fleet.Stopped, Cloned: time.Now()}})
	}
	d.adopt(s, set("two", fleet.Everything))
	if got := s.runners["a"].Drift; got != "" {
		t.Errorf("nothing has changed, but it is said to be outdated: %s", got)
	}
	d.adopt(s, set("three", fleet.Nothing))
	if got := s.runners["a"].Drift; got != `network.egress is "all", not "none"` {
		t.Errorf("the spare of the changed pool: %q", got)
	}
	if got := s.runners["b"].Drift; got != "" {
		t.Errorf("the spare of the other pool: %q", got)
	}
	// A listing that could not read its firewall does not clear it.
	c := proxmox.Container{Node: "n", VMID: 100, Name: "a", State: fleet.Stopped}
	d.drifted(s, s.runners["a"], proxmox.Listing{Node: "n", AsOf: time.Now(), Owned: []proxmox.Container{c}}, c)
	if s.runners["a"].Drift == "" {
		t.Error("a listing that tells nothing of the spare clears it")
	}
}

// What a template said is written down when it is new, and not at each listing.
func TestTemplatesAreWrittenDownOnce(t *testing.T) {
	d := still(t)
	list := proxmox.Listing{Node: "a", Templates: []fleet.Template{{Node: "a", VMID: 9000, Ref: fleet.Ref{Family: "f", Version: "1"}, Runner: "2.335.1"}}}
	for i, want := range []int{1, 0} {
		if good := d.vet(&d.state, list); len(good) != 1 {
			t.Fatalf("look %d: %d templates may be used, want 1", i, len(good))
		}
		if n := d.cfg.Journal.Stats().Queued; n != want {
			t.Errorf("look %d: %d writes wait, want %d", i, n, want)
		}
		if err := d.cfg.Journal.Put(t.Context(), "all before is written", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestListeningRunnerOutlivesAnOlderListing: a stop cut its launch off, and of two
// listings that are on their way the later one comes first and shows it listening.
// The older one, of before the start, must not give it up.
func TestListeningRunnerOutlivesAnOlderListing(t *testing.T) {
	listens := map[string]func(*Daemon, *runner){
		"by its registration": func(d *Daemon, r *runner) {
			d.recorded(r, github.Registration{ID: 1, Name: "r", State: fleet.Online})
		},
		"by its job": func(d *Daemon, _ *runner) { d.took(fleet.Job{ID: 7, Runner: "r"}, time.Now()) },
	}
	for name, heard := range listens {
		t.Run(name, func(t *testing.T) {
			d := still(t)
			s := &d.state
			d.nodesSeen(s, []fleet.Node{{Name: "a", Online: true}})
			r := &runner{Runner: fleet.Runner{Name: "r", Node: "a", VMID: 100, Container: fleet.Stopped, Cloned: time.Now(), Launched: time.Now()}}
			s.add(r)
			shown := func(asOf time.Time) {
				d.listed(s, proxmox.Listing{Node: "a", AsOf: asOf, Owned: []proxmox.Container{{Name: "r", Node: "a", VMID: 100, State: fleet.Stopped}}})
			}
			older := time.Now()
			heard(d, r)
			shown(older)
			if p := r.Phase(); p != fleet.Idle && p != fleet.Busy || !r.Spent.IsZero() {
				t.Errorf("it listens, and counts as %s: %+v", p, r.Runner)
			}
			shown(time.Now())
			if r.Ended.IsZero() {
				t.Errorf("a newer listing shows it stopped, and it has not ended: %+v", r.Runner)
			}
		})
	}
}

// TestRegistrationWithoutContainerStaysWithout: its container was destroyed, GitHub
// lists it for a while, and a webhook of its job comes late. It must not take a
// place of its pool from then on.
func TestRegistrationWithoutContainerStaysWithout(t *testing.T) {
	d := still(t)
	s := &d.state
	d.orphaned(s, "acme", "linux", github.Registration{ID: 1, Name: "r", State: fleet.Online})
	d.took(fleet.Job{ID: 7, Runner: "r"}, time.Now())
	r := s.runners["r"]
	if r.Container != fleet.Absent || r.Counts() {
		t.Errorf("it counts, and its container is %s: %+v", r.Container, r.Runner)
	}
	d.recorded(r, github.Registration{})
	d.ended(r, time.Now())
	if p := r.Phase(); p != fleet.Gone {
		t.Errorf("its job is over and its registration removed, and it is %s: %+v", p, r.Runner)
	}
}

// TestLaunchThatWasCutOffIsGivenUp: its container is stopped, and nothing is heard
// of it.
func TestLaunchThatWasCutOffIsGivenUp(t *testing.T) {
	d := still(t)
	s := &d.state
	d.nodesSeen(s, []fleet.Node{{Name: "a", Online: true}})
	r := &runner{Runner: fleet.Runner{Name: "r", Node: "a", VMID: 100, Container: fleet.Stopped, Cloned: time.Now(), Launched: time.Now()}}
	s.add(r)
	d.recorded(r, github.Registration{ID: 1, Name: "r", State: fleet.Offline})
	d.listed(s, proxmox.Listing{Node: "a", AsOf: time.Now(), Owned: []proxmox.Container{{Name: "r", Node: "a", VMID: 100, State: fleet.Stopped}}})
	if r.Spent.IsZero() || r.Cause != "its launch was cut off" {
		t.Errorf("it counts as %s: %+v", r.Phase(), r.Runner)
	}
}

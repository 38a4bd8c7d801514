package proxmox

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

const clonePost = "POST /nodes/pve/lxc/9000/clone"

func TestSecondCloneOfATemplateIsLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{Timing: slow})
		first := make(chan error)
		go func() { first <- w.client.Clone(t.Context(), spec(20001)) }()
		synctest.Wait() // the first one polls its task
		err := w.client.Clone(t.Context(), spec(20002))
		const want = "clone template 9000 to 20002: CT is locked (disk)"
		if !errors.Is(err, fleet.ErrLocked) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		for _, tm := range w.list().Templates {
			if locked := tm.VMID == thin; tm.Locked != locked {
				t.Errorf("template %d: locked is %v, want %v", tm.VMID, tm.Locked, locked)
			}
		}
		if err := <-first; err != nil {
			t.Errorf("first clone: got %v", err)
		}
		if w.there(20002) {
			t.Error("20002 is there")
		}
	})
}

func TestTakenVMIDIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.sim.AddContainer(pve.Container{VMID: 20034, Storage: pve.LabStorage}) // the token cannot see it
		err := w.client.Clone(t.Context(), spec(20034))
		const want = "clone template 9000 to 20034: CT 20034 already exists on node 'pve'"
		if !errors.Is(err, fleet.ErrExists) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		for id, want := range map[fleet.VMID]bool{20034: true, 20035: false} {
			if taken, err := w.client.Taken(t.Context(), id); err != nil || taken != want {
				t.Errorf("taken %d: got %v, %v, want %v", id, taken, err, want)
			}
		}
	})
}

func TestFullCloneOnlyWhereNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{Timing: slow})
		took := func(id fleet.VMID, template fleet.VMID, storage string) time.Duration {
			s := spec(id)
			s.Template.VMID, s.Template.Storage = template, storage
			begin := time.Now()
			if err := w.client.Clone(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			return time.Since(begin)
		}
		if d := took(20001, thin, pve.LabStorage); d > 3*time.Second {
			t.Errorf("on %s: clone took %v, want a linked one", pve.LabStorage, d)
		}
		if d := took(20002, dir, "nas"); d < 15*time.Second {
			t.Errorf("on a directory: clone took %v, want a full one", d)
		}
		if n := w.sentLike("POST .*/clone"); n != 2 {
			t.Errorf("clone calls: got %d, want 2: the storage's type was known", n)
		}
	})
}

func TestStorageWithoutLinkedClonesIsLearntFromTheRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.always(func(r *http.Request) stage.Fault {
			if r.URL.Path == "/api2/json/storage" {
				return stage.Fault{Code: 595, Reason: "Connection refused"}
			}
			return stage.Fault{}
		})
		s := spec(20001)
		s.Template.VMID, s.Template.Storage = dir, "nas"
		for i, want := range []int{2, 3} {
			s.VMID, s.Name = spec(20001+fleet.VMID(i)).VMID, spec(20001+fleet.VMID(i)).Name
			if err := w.client.Clone(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if n := w.sentLike("POST .*/clone"); n != want {
				t.Errorf("clone calls so far: got %d, want %d", n, want)
			}
		}
		for _, tm := range w.list().Templates {
			if tm.VMID == dir && !tm.Full {
				t.Error("the listing does not know that the template needs full clones")
			}
		}
	})
}

func TestLostCloneAnswerIsLookedUp(t *testing.T) {
	for name, c := range map[string]struct {
		fault stage.Fault
		want  error
		made  bool
	}{
		"answer lost":             {stage.Fault{Lose: true}, nil, true},
		"596, it happened":        {stage.Fault{Code: 596, Reason: "Connection timed out", Applied: true}, nil, true},
		"595, it happened":        {stage.Fault{Code: 595, Reason: "Connection refused", Applied: true}, nil, true},
		"null, it happened":       {stage.Fault{Code: 200, Reason: "OK", Body: `{"data":null}`, Applied: true}, nil, true},
		"596, it did not happen":  {stage.Fault{Code: 596, Reason: "Broken pipe"}, fleet.ErrUnknownOutcome, false},
		"595, it did not happen":  {stage.Fault{Code: 595, Reason: "Connection refused"}, fleet.ErrUnavailable, false},
		"connection broke before": {stage.Fault{Refuse: true}, fleet.ErrUnknownOutcome, false},
		"503 of a proxy":          {stage.Fault{Code: 503, Reason: "Service Unavailable"}, fleet.ErrUnavailable, false},
	} {
		for _, timing := range []pve.Timing{{}, slow} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, pve.Config{Timing: timing})
				w.once(clonePost, c.fault)
				err := w.client.Clone(t.Context(), spec(20001))
				if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%s: got %v, want %v", name, err, c.want)
				}
				if errors.Is(c.want, fleet.ErrUnavailable) && errors.Is(err, fleet.ErrUnknownOutcome) {
					t.Errorf("%s: got %v, want no doubt", name, err)
				}
				if n := w.sentLike(clonePost); n != 1 {
					t.Errorf("%s: got %d clone calls, want 1", name, n)
				}
				if got, ok := w.owned(20001); ok != c.made || c.made && got.State != fleet.Stopped {
					t.Errorf("%s: listed %v as %v, want %v", name, ok, got.State, c.made)
				}
			})
		}
	}
}

func TestLostCloneAnswerOfAnOldProxmoxIsLookedUpByVMID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The task log of 8.4 does not name the new VMID.
		w := newWorld(t, pve.Config{Timing: slow, Release: "8.4.21"})
		w.once(clonePost, stage.Fault{Lose: true})
		if err := w.client.Clone(t.Context(), spec(20001)); err != nil {
			t.Fatal(err)
		}
		if got, _ := w.owned(20001); got.State != fleet.Stopped || w.sentLike(clonePost) != 1 {
			t.Errorf("got %v after %d clone calls, want a spare after one", got.State, w.sentLike(clonePost))
		}
	})
}

func TestLostCloneAnswerIsNotMistakenForAnothersContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.sim.AddContainer(pve.Container{VMID: 20001, ResourcePool: pve.LabRunners, Storage: pve.LabStorage, Config: map[string]string{"hostname": "a"}})
		w.once(clonePost, stage.Fault{Lose: true})
		if err := w.client.Clone(t.Context(), spec(20001)); !errors.Is(err, fleet.ErrExists) {
			t.Errorf("got %v, want %v", err, fleet.ErrExists)
		}
	})
}

func TestProxmoxAwayDuringAClone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{Timing: slow})
		time.AfterFunc(700*time.Millisecond, func() { w.sim.StopProxy("pve") })
		time.AfterFunc(9*time.Second, func() { w.sim.StartProxy("pve") })
		if err := w.client.Clone(t.Context(), spec(20001)); err != nil {
			t.Fatal(err)
		}
		if got, _ := w.owned(20001); got.State != fleet.Stopped {
			t.Errorf("got %v, want a spare", got.State)
		}
	})
}

func TestFailedCloneSaysWhy(t *testing.T) {
	for exit, want := range map[string]error{
		"clone failed: out of space":                       nil,
		"clone failed: interrupted by signal":              fleet.ErrUnavailable,
		"can't lock file '/x/pve-storage-a' - got timeout": fleet.ErrLocked,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, pve.Config{})
			w.sim.FailNext("vzclone", exit)
			err := w.client.Clone(t.Context(), spec(20001))
			if err == nil || !strings.Contains(err.Error(), "clone template 9000 to 20001: ") || !strings.Contains(err.Error(), exit) {
				t.Errorf("got %v, want an error with %q", err, exit)
			}
			if want != nil && !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", exit, err, want)
			}
		})
	}
}

func TestKilledWorkerLeavesLocksAndAHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{Timing: slow})
		time.AfterFunc(time.Second, func() { w.sim.KillWorker(w.sim.Tasks("pve")[0]) })
		err := w.client.Clone(t.Context(), spec(20001))
		if !errors.Is(err, fleet.ErrUnknownOutcome) || !strings.Contains(err.Error(), `run "pct unlock 9000" on node pve`) {
			t.Errorf("got %v, want an unknown outcome with a hint", err)
		}
		l := w.list()
		if len(l.Owned) != 0 || !l.Templates[0].Locked {
			t.Errorf("got %+v, want a locked template and nothing owned", l)
		}
		if taken, err := w.client.Taken(t.Context(), 20001); err != nil || !taken {
			t.Errorf("taken: got %v, %v, want the half-made container to hold its VMID", taken, err)
		}
	})
}

func TestContainerLeftUnconfiguredIsNoSpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		s := spec(20001)
		s.Pool.Network = fleet.Network{Bridge: "vmbr9", VLAN: 30} // which the token may not use
		err := w.client.Clone(t.Context(), s)
		if !errors.Is(err, fleet.ErrDenied) || !errors.Is(err, fleet.ErrUnknownOutcome) || !strings.Contains(err.Error(), "(/sdn/zones/localnetwork/vmbr9/30, SDN.Use)") {
			t.Errorf("got %v, want Proxmox's refusal, and that something was made", err)
		}
		if got, ok := w.owned(20001); !ok || got.State != fleet.Creating {
			t.Errorf("got %v, %v, want it listed as %v", got.State, ok, fleet.Creating)
		}
		if err := w.destroy(t.Context(), 20001); err != nil || w.there(20001) {
			t.Errorf("destroy: got %v", err)
		}
	})
}

func TestProxmoxAwayAfterTheCloneIsNotWithoutEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.always(func(r *http.Request) stage.Fault {
			if strings.HasSuffix(r.URL.Path, "/config") {
				return stage.Fault{Code: 595, Reason: "No route to host"}
			}
			return stage.Fault{}
		})
		begin := time.Now()
		err := w.client.Clone(t.Context(), spec(20001))
		if !errors.Is(err, fleet.ErrUnknownOutcome) || errors.Is(err, fleet.ErrUnavailable) {
			t.Errorf("got %v, want %v alone", err, fleet.ErrUnknownOutcome)
		}
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("gave up after %v, want at most 20s", took)
		}
	})
}

func TestLostConfigurationIsRepeated(t *testing.T) {
	const put = "PUT /nodes/pve/lxc/20001/config"
	for name, fault := range map[string]stage.Fault{
		"it happened":     {Lose: true},
		"did not happen":  {Code: 596, Reason: "Broken pipe"},
		"somebody's edit": {Code: 500, Reason: "detected modified configuration - file changed by other user? Try again."},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, pve.Config{})
			w.once(put, fault)
			s := spec(20001)
			s.Pool.Size.Cores = 3
			if err := w.client.Clone(t.Context(), s); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, _ := w.owned(20001); got.State != fleet.Stopped || w.real(20001).Config["cores"] != "3" {
				t.Errorf("%s: got %v with %q cores, want a spare with 3", name, got.State, w.real(20001).Config["cores"])
			}
		})
	}
}

func TestCloneOfAProtectedTemplateIsNotProtected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.sim.SetOption(thin, "protection", "1")
		w.sim.SetOption(thin, "onboot", "1")
		w.clone(20001)
		set := w.real(20001).Config
		if set["protection"] == "1" || set["onboot"] == "1" {
			t.Errorf("got protection %q and onboot %q, want neither", set["protection"], set["onboot"])
		}
		w.sim.SetOption(20001, "protection", "1") // by a person
		if c, _ := w.owned(20001); c.Protected {
			t.Log("seen by the listing") // not promised: nothing else changed
		}
		if err := w.destroy(t.Context(), 20001); err != nil || w.there(20001) {
			t.Errorf("destroy: got %v, want the protection lifted", err)
		}
	})
}

func TestTemplateWithAnEnvironmentIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.sim.SetOption(thin, "env", "PATH=/bin")
		err := w.client.Clone(t.Context(), spec(20001))
		if !errors.Is(err, fleet.ErrInvalid) || !strings.Contains(err.Error(), "the template sets env") {
			t.Errorf("got %v, want a refusal", err)
		}
	})
}

func TestReservedTagsAreLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.once("PUT /nodes/pve/lxc/20001/config", stage.Fault{Code: 403, Reason: "Permission check failed (/, Sys.Modify for modifying tag 'dayfly')"})
		w.clone(20001)
		if got := w.real(20001).Config["tags"]; strings.Contains(got, "dayfly-pool-web") {
			t.Errorf("tags: got %q, want them left alone", got)
		}
		if got, _ := w.owned(20001); got.State != fleet.Stopped {
			t.Errorf("got %v, want a spare", got.State)
		}
	})
}

func TestDeniedCloneNamesThePrivilege(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.sim.RevokeACL("/storage/"+pve.LabStorage, "DayflyStorage", pve.LabToken)
		err := w.client.Clone(t.Context(), spec(20001))
		const want = "clone template 9000 to 20001: Permission check failed (/storage/local-zfs, Datastore.AllocateSpace)"
		if !errors.Is(err, fleet.ErrDenied) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}

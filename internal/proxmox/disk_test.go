package proxmox

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

const resizePut = "PUT /nodes/pve/lxc/20001/resize"

// grantDisk gives the token what growing a disk takes.
func (w *world) grantDisk() {
	w.sim.AddRole("Disk", "VM.Config.Disk")
	w.sim.SetACL("/pool/"+pve.LabRunners, "Disk", true, "dayfly@pve", pve.LabToken)
}

// large is a clone with a disk that is larger than its template's of 4 GiB.
func large() Spec {
	s := spec(20001)
	s.Pool.Size.DiskMiB = 20 << 10
	return s
}

func TestDiskGrowsBeforeTheContainerCountsAsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{Timing: slow})
		w.grantDisk()
		if err := w.client.Clone(t.Context(), large()); err != nil {
			t.Fatal(err)
		}
		if got := w.real(20001).Config["rootfs"]; !strings.Contains(got, "size=20G") {
			t.Errorf("the disk is %s", got)
		}
		l := w.list()
		for mib, want := range map[int]string{20 << 10: "", 0: "", 30 << 10: "its disk has 20480 MiB, not 30720", 10 << 10: "its disk has 20480 MiB, not 10240"} {
			pool := large().Pool
			pool.Size.DiskMiB = mib
			if got := l.Drift(20001, pool); got != want {
				t.Errorf("for %d MiB: drift is %q, want %q", mib, got, want)
			}
		}
		if c, ok := w.owned(20001); !ok || c.State != fleet.Stopped {
			t.Errorf("the container is %+v", c)
		}
	})
}

func TestDiskThatIsLargeEnoughIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{}) // without VM.Config.Disk
		s := large()
		s.Pool.Size.DiskMiB = 4 << 10
		if err := w.client.Clone(t.Context(), s); err != nil || w.sentLike(resizePut) != 0 {
			t.Errorf("got %v, and %d times resize", err, w.sentLike(resizePut))
		}
	})
}

// TestDiskThatDoesNotGrowIsNoContainer: it is listed as half-made, for its
// clean-up.
func TestDiskThatDoesNotGrowIsNoContainer(t *testing.T) {
	for name, c := range map[string]struct {
		mib    int
		spoil  func(*world)
		want   error
		says   string
		resize int
	}{
		"no privilege":             {20 << 10, func(w *world) { w.sim.RevokeACL("/pool/"+pve.LabRunners, "Disk", pve.LabToken) }, fleet.ErrDenied, "VM.Config.Disk", 1},
		"the template's is larger": {2 << 10, func(*world) {}, fleet.ErrInvalid, "the disk has 4096 MiB, more than 2048: disks only grow", 0},
		"the task fails":           {20 << 10, func(w *world) { w.sim.FailNext("resize", "command 'e2fsck -f -y' failed: exit code 8") }, nil, "e2fsck", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, pve.Config{})
				w.grantDisk()
				c.spoil(w)
				s := large()
				s.Pool.Size.DiskMiB = c.mib
				err := w.client.Clone(t.Context(), s)
				if err == nil || c.want != nil && !errors.Is(err, c.want) || !errors.Is(err, fleet.ErrUnknownOutcome) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v", err)
				}
				if n := w.sentLike(resizePut); n != c.resize {
					t.Errorf("resized %d times, want %d", n, c.resize)
				}
				if k, ok := w.owned(20001); !ok || k.State != fleet.Creating {
					t.Errorf("the container is %+v, want one that is half-made", k)
				}
			})
		})
	}
}

// TestLostResizeAnswerIsLookedUp: the task may be at work, or not; a second one
// after the first finds nothing to do, and fails.
func TestLostResizeAnswerIsLookedUp(t *testing.T) {
	for name, fault := range map[string]stage.Fault{
		"answer lost":             {Lose: true},
		"596, it happened":        {Code: 596, Reason: "Connection timed out", Applied: true},
		"596, it did not":         {Code: 596, Reason: "Connection timed out"},
		"595, nobody there":       {Code: 595, Reason: "Connection refused"},
		"locked by somebody else": {Code: 500, Reason: "CT is locked (backup)"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, pve.Config{Timing: slow})
				w.grantDisk()
				w.once(resizePut, fault)
				if err := w.client.Clone(t.Context(), large()); err != nil {
					t.Errorf("got %v", err)
				}
				if got := w.real(20001).Config["rootfs"]; !strings.Contains(got, "size=20G") {
					t.Errorf("the disk is %s", got)
				}
			})
		})
	}
}

func TestCheckAsksForVMConfigDiskOfPoolsWithADiskOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		pool := bigPool
		pool.Size.DiskMiB = 20 << 10
		got := w.check(pool)
		if len(got) != 1 || got[0].Privilege != "VM.Config.Disk" || got[0].Path != "/pool/"+pve.LabRunners ||
			!strings.HasPrefix(got[0].Role, "pveum role modify DayflyRunners --append 1 --privs VM.Config.Disk || pveum role add DayflyRunners --privs VM.Allocate,") ||
			!strings.HasSuffix(got[0].Role, ",VM.Config.Disk") || !strings.Contains(got[0].What, "(for the disk of pool web)") {
			t.Errorf("got %+v", got)
		}
		w.grantDisk()
		if got := w.check(pool); len(got) != 0 {
			t.Errorf("with the privilege: %v", got)
		}
		pool.Size.DiskMiB = 1 << 10
		if got := w.check(pool); len(got) == 0 || !strings.HasPrefix(got[0].String(), "pool web does not use template 9000") || !strings.Contains(got[0].What, "its disk has 4096 MiB, more than size.disk of the pool, 1024") {
			t.Errorf("with a small disk: %v", got)
		}
	})
}

func TestSizesAreReadAsProxmoxWritesThem(t *testing.T) {
	for rootfs, want := range map[string]int{
		"local-zfs:subvol-1-disk-0,size=4G": 4096, "thin:vm-1-disk-0,acl=1,size=8704M": 8704, "a:b,size=2T,quota=1": 2 << 20, "a:b,size=1048576": 1,
		"a:b,size=1.5G": 1536, "a:b,size=2048K": 2, "a:b": 0, "": 0, "a:b,size=": 0, "a:b,size=G": 0, "a:b,size=-1G": 0, "a:b,size=4GG": 0, "a:b,size=9e99T": 0, "a:b,size=NaN": 0,
	} {
		if got := (settings{"rootfs": text(rootfs)}).disk(); got != want {
			t.Errorf("%q: got %d MiB, want %d", rootfs, got, want)
		}
	}
}

package proxmox

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// TestStoresTellWhatIsFree: a full clone takes room at once, a linked one does
// not, and a storage that the token may not see is left out.
func TestStoresTellWhatIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.sim.AddStorage(pve.Storage{ID: "hidden", Type: "lvmthin"})
		free := func() map[string]int {
			stores, err := w.client.Stores(t.Context(), "pve")
			if err != nil {
				t.Fatal(err)
			}
			out := map[string]int{}
			for _, s := range stores {
				out[s.Name] = s.FreeMiB
			}
			return out
		}
		before := free()
		if len(before) != 2 || before[pve.LabStorage] != 100<<10 || before["nas"] != 100<<10 {
			t.Errorf("free MiB: %v, want 102400 on %s and nas alone", before, pve.LabStorage)
		}
		linked, full := spec(20001), spec(20002)
		full.Template.VMID, full.Template.Storage = dir, "nas"
		for _, s := range []Spec{linked, full} {
			if err := w.client.Clone(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		after := free()
		if after[pve.LabStorage] != 100<<10 || after["nas"] >= 100<<10 {
			t.Errorf("after a linked and a full clone: free MiB %v, want less on nas alone", after)
		}
		l, err := w.client.List(t.Context(), "pve")
		if err != nil || len(l.Templates) != 2 || l.Templates[0].DiskMiB != 4096 {
			t.Errorf("templates %+v, %v; want two with 4 GiB disks", l.Templates, err)
		}
	})
}

func TestFullCloneOnAFullStorageFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.sim.FillStorage("nas", 100<<30)
		s := spec(20001)
		s.Template.VMID, s.Template.Storage = dir, "nas"
		if err := w.client.Clone(t.Context(), s); err == nil || !strings.Contains(err.Error(), "exit code 11") {
			t.Errorf("got %v, want the copy to fail", err)
		}
		if w.there(20001) {
			t.Error("something of the clone is left")
		}
	})
}

//go:build linux

package host

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestPeaksOutliveTheirCgroup: what a cgroup counted is known after the kernel has
// let go of it, and what a kernel does not count is 0.
func TestPeaksOutliveTheirCgroup(t *testing.T) {
	s := plain(t)
	dir := s.cgroup(testID)
	must(t, os.MkdirAll(dir, 0o755))
	count := func(files map[string]string) {
		t.Helper()
		for name, text := range files {
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
		}
	}
	root, err := os.Open(t.TempDir())
	must(t, err)
	defer root.Close()
	g := &grip{id: testID, root: root, init: -1}
	look := func(want Stats) {
		t.Helper()
		got := s.sample(g)
		want.Disk, want.DiskFree, want.InodesFree, want.DiskFull = got.Disk, got.DiskFree, got.InodesFree, got.DiskFull
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	look(Stats{})
	count(map[string]string{"memory.current": "7\n", "cpu.stat": "usage_usec 1500\nuser_usec 9000\n", "memory.events": "low 0\noom 4\noom_kill 0\noom_group_kill 0\n"})
	look(Stats{Memory: 7, CPU: 1500 * time.Microsecond})
	count(map[string]string{"memory.peak": "900\n", "pids.peak": "12\n", "memory.events": "low 0\noom 4\noom_kill 3\noom_group_kill 0\n"})
	want := Stats{Memory: 900, CPU: 1500 * time.Microsecond, Processes: 12, OOMKills: 3}
	look(want)
	must(t, os.RemoveAll(dir))
	look(want)
}

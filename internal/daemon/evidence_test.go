package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/host"
)

func TestEvidenceIsOneLine(t *testing.T) {
	files := []host.File{{Path: "/a", Data: make([]byte, 1500)}, {Path: "/b", Data: make([]byte, 600)}}
	for want, e := range map[string]host.Evidence{
		"the runner left no word of how it ended; 0 files, 0 KiB": {},
		"the runner exited 0: its work was over; memory 300 MiB; CPU 1.5s; disk 2 MiB; 2 files, 3 KiB; 1 not taken": {
			Exit: "exited 0: its work was over", Files: files, Missed: []string{"/c: not a regular file"},
			Stats: host.Stats{Memory: 300 << 20, CPU: 1501 * time.Millisecond, Disk: 2 << 20},
		},
		"the runner killed KILL (oom-kill); out of memory: 3 processes killed; disk full; 0 files, 0 KiB": {
			Exit: "killed KILL (oom-kill)", Stats: host.Stats{OOMKills: 3, DiskFull: true},
		},
	} {
		if got := evidenceText(e); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestEvidenceIsKeptUnderNamesOfOurs: what files are called in a container is in
// the summary alone.
func TestEvidenceIsKeptUnderNamesOfOurs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	odd := "/x/" + strings.Repeat("y", 300) + "\033[2J ..log"
	e := host.Evidence{Name: "r", Files: []host.File{{Path: "/var/lib/../../etc/passwd", Data: []byte("a")}, {Path: odd, Data: []byte("b")}, {Path: "/..", Data: []byte("c")}}}
	if err := keep(dir, e); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"00-passwd": "a", "01-" + strings.Repeat("y", 90) + "__2J_..log": "b", "02-..": "c"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			list, _ := filepath.Glob(dir + "/*")
			t.Errorf("%s: %q, %v; there are %q", name, got, err, list)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "summary.json")); err != nil || !strings.Contains(string(text), `"/var/lib/../../etc/passwd"`) {
		t.Errorf("summary: %s, %v", text, err)
	}
}

// TestOldEvidenceIsRemovedAndNothingElse fills the folder.
func TestOldEvidenceIsRemovedAndNothingElse(t *testing.T) {
	d := &Daemon{cfg: Config{Evidence: t.TempDir(), Key: fleet.NewSecret("0123456789abcdef0123456789abcdef")}}
	begin := time.Now().Add(-time.Hour)
	folder := func(name string, age int) {
		path := filepath.Join(d.cfg.Evidence, name)
		at := begin.Add(time.Duration(age) * time.Second)
		if err := errors.Join(os.Mkdir(path, 0o700), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	folder("somebody's", 0)
	var names []string
	for i := range keptMost + 1 {
		names = append(names, fleet.NewName("linux", [4]byte{byte(i >> 8), byte(i)}, []byte(d.cfg.Key.Reveal())))
		folder(names[i], 1+i)
	}
	d.prune()
	var left []string
	for _, name := range append(names, "somebody's") {
		if _, err := os.Stat(filepath.Join(d.cfg.Evidence, name)); err == nil {
			left = append(left, name)
		}
	}
	if want := append(names[1:], "somebody's"); fmt.Sprint(left) != fmt.Sprint(want) {
		t.Errorf("%d are left, want %d: all but the oldest of ours", len(left), len(want))
	}
}

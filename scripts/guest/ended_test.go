package guest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEndIsRecorded(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/run/jit")
	if out, code := sh(t, dir, "ended", "SERVICE_RESULT=exit-code", "EXIT_CODE=exited", "EXIT_STATUS=7"); code != 0 {
		t.Fatalf("%d, %q", code, out)
	}
	for _, where := range []string{"lib", "run"} {
		got, err := os.ReadFile(filepath.Join(dir, where, "exit.json"))
		if err != nil || !strings.HasPrefix(string(got), `{"result":"exit-code","code":"exited","status":"7","at":"20`) {
			t.Errorf("%s: got %s, %v", where, got, err)
		}
	}
	if _, err := os.Stat(dir + "/run/jit"); err == nil {
		t.Error("the config is still there")
	}
}

// TestEvidenceOfTheEndIsTheContainersOwn: what the kernel counted and how full the
// disk was; of what the job says of itself nothing that a link leads to, and little.
func TestEvidenceOfTheEndIsTheContainersOwn(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"group/memory.events": "oom 2\noom_kill 1\n", "group/pids.peak": "77\n", "secret": "secret\n", "run/job/started": strings.Repeat("x", 100),
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(dir+"/secret", dir+"/run/job/completed"); err != nil {
		t.Fatal(err)
	}
	if out, code := sh(t, dir, "ended", "DAYFLY_GROUP="+dir+"/group"); code != 0 {
		t.Fatalf("%d, %q", code, out)
	}
	for name, want := range map[string]string{
		"limits": "memory.events: oom 2\nmemory.events: oom_kill 1\npids.peak: 77\n", "disk": "1K-blocks", "started": strings.Repeat("x", 64), "completed": "",
	} {
		got, err := os.ReadFile(dir + "/lib/evidence/" + name)
		if want == "" && !errors.Is(err, fs.ErrNotExist) || !strings.Contains(string(got), want) || name == "limits" && string(got) != want || len(got) > 400 {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	if got, _ := os.ReadFile(dir + "/lib/evidence/disk"); !strings.Contains(string(got), "Inodes") {
		t.Errorf("nothing of inodes: %s", got)
	}
}

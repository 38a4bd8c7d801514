// Package chain plays the whole chain on real containers, from the bake to the
// end of a job, as "make demo-lxc" does, and looks at what is left on the
// machine: its tests are outside the sandbox.
package chain

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/test/packertool"
	"github.com/dayfly-ci/dayfly/test/programs"
)

// demo prepares the day with real containers, or skips the test.
func demo(t *testing.T) (*exec.Cmd, *spoken) {
	t.Helper()
	if err := lab.Missing(); err != nil {
		lab.Lacking(t, err)
	}
	packer, err := packertool.Find(t.Context())
	if err != nil {
		lab.Lacking(t, err)
	}
	dayfly := programs.Path(t, programs.Dayfly)
	programs.Path(t, programs.Plugin) // which the demo finds beside it
	programs.Path(t, programs.Stub)
	return program(t, dayfly, "demo", "--containers", "lxc", "--packer", packer)
}

// program prepares one that makes a sandbox.
func program(t *testing.T, path string, args ...string) (*exec.Cmd, *spoken) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, args...)
	out := new(spoken)
	cmd.Env = append(os.Environ(), mark+"="+t.TempDir())
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 20 * time.Second
	return cmd, out
}

// spoken is what a program has said so far.
type spoken struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (s *spoken) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// String is all of it.
func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// end is the last of it.
func (s *spoken) end() string {
	lines := strings.SplitAfter(s.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-25):], "")
}

// allServed is the day's last line: jobs, of them served and cancelled, runners
// (a launch that is cut off costs one), what is left, live jobs killed.
var allServed = regexp.MustCompile(`(?m)^ *7 +7 +0 +[0-9]+ +0 +0 +0$`)

func TestChain(t *testing.T) {
	cmd, out := demo(t)
	before := traces(cmd)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v; it ended so:\n%s\nthe whole day:\n%s", err, out.end(), out)
	}
	for _, want := range []string{
		"storage driver: overlay2 runs containers", "It passed its smoke test", "hello from a container in the container",
		"config delivered by the root half", "the runner exited 0: its work was over",
		"kill -9 of the daemon and the root half while a job runs", "kill -9 of the daemon while a container is launched",
		"kill -9 of the root half while a container is launched",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the day lacks %q", want)
		}
	}
	if !allServed.MatchString(out.String()) {
		t.Error("not every job was served once, or something is left")
	}
	if t.Failed() {
		t.Logf("it ended so:\n%s\nthe whole day:\n%s", out.end(), out)
	}
	goes(t, cmd, before)
}

// The sandbox ends with the program that asked for it, however that ends.
func TestNothingIsLeftAfterSIGKILL(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*testing.T) (*exec.Cmd, *spoken)
		says    string // when a container runs
	}{
		"the demo": {demo, "Waiting for it to be up"},
		"a test":   {test, aContainerRuns},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, out := c.prepare(t)
			before := traces(cmd)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			late := time.After(5 * time.Minute)
			for tick := time.NewTicker(20 * time.Millisecond); !strings.Contains(out.String(), c.says); {
				select {
				case <-tick.C:
				case <-late:
					t.Fatalf("no container was started:\n%s", out)
				}
			}
			if len(traces(cmd)) <= len(before) {
				t.Error("the sandbox leaves no trace while it is there: what is looked for is wrong")
			}
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			goes(t, cmd, before)
		})
	}
}

package chain

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/lab"
)

// mark is in the environment of the program that asks for a sandbox, and so in
// that of its keeper and of what else is of this module in it.
const mark = "DAYFLY_TEST_CHAIN"

// traces are what a sandbox has on the machine while it is there: cgroups (and
// so every process in them), mounts, loop devices, network devices and
// processes of ours outside of the cgroups. What another run's sandbox holds is
// none of them.
func traces(cmd *exec.Cmd) []string {
	var found []string
	for _, pattern := range []string{
		"/sys/fs/cgroup/dayfly-lab.*", "/sys/fs/cgroup/*/dayfly-lab.*", "/sys/fs/cgroup/*/lxc*/2[0-9][0-9][0-9][0-9]",
		"/sys/class/net/veth2*", "/var/lib/lxc/2*", "/run/dayfly-lab*",
	} {
		list, _ := filepath.Glob(pattern)
		found = append(found, list...)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "dayfly-lab") || strings.Contains(line, " /mnt/disk") {
			found = append(found, line)
		}
	}
	backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	cache, _ := lab.CacheDir()
	for _, b := range backing {
		if text, _ := os.ReadFile(b); strings.HasPrefix(string(text), cache) {
			found = append(found, b)
		}
	}
	ours, theirs := processes(cmd)
	found = append(found, ours...)
	return slices.DeleteFunc(found, func(s string) bool {
		return slices.ContainsFunc(theirs, func(part string) bool { return strings.Contains(s+"/", part) })
	})
}

// processes are those of our sandbox that live, and of each other sandbox that
// lives the parts of paths by which what it holds is known.
func processes(cmd *exec.Cmd) (ours, theirs []string) {
	ourMark := cmd.Env[len(cmd.Env)-1] + "\x00"
	list, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range list {
		text, err := os.ReadFile(p + "/environ")
		environ := string(text) + "\x00"
		switch {
		case err != nil:
		case strings.Contains(environ, ourMark):
			exe, _ := os.Readlink(p + "/exe")
			ours = append(ours, p+": "+exe)
		case strings.Contains(environ, "DAYFLY_LAB_STAGE="):
			theirs = append(theirs, "/dayfly-lab."+filepath.Base(p)+"/")
			mounts, _ := os.ReadFile(p + "/mountinfo")
			for line := range strings.Lines(string(mounts)) {
				var loop int
				if _, after, ok := strings.Cut(line, " - btrfs /dev/loop"); ok {
					if _, err := fmt.Sscan(after, &loop); err == nil {
						theirs = append(theirs, fmt.Sprintf("/loop%d/", loop))
					}
				}
			}
		}
	}
	return ours, theirs
}

// goes waits until nothing of the sandbox is left. What was there before, left
// by who was killed once, does not count.
func goes(t *testing.T, cmd *exec.Cmd, before []string) {
	t.Helper()
	late := time.After(30 * time.Second)
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		left := slices.DeleteFunc(traces(cmd), func(s string) bool { return slices.Contains(before, s) })
		if len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("left on the machine:\n%s", strings.Join(left, "\n"))
		}
	}
}

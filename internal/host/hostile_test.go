//go:build linux

package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

func (n *node) collect(id fleet.VMID) Evidence {
	n.t.Helper()
	e, err := n.c.Collect(n.t.Context(), id)
	if err != nil {
		n.t.Fatal(err)
	}
	return e
}

func (e Evidence) text(path string) string {
	for _, f := range e.Files {
		if f.Path == path {
			return string(f.Data)
		}
	}
	return ""
}

func paths(e Evidence) []string {
	var list []string
	for _, f := range e.Files {
		list = append(list, f.Path)
	}
	return list
}

const leave = `mkdir -p /run/dayfly/job
date >/run/dayfly/job/started
date >/var/lib/dayfly/started
echo a session began >/opt/actions-runner/_diag/Runner_1.log
echo a job ran >/opt/actions-runner/_diag/Worker_1.log
echo '{"result":"success","code":"exited","status":"0"}' | tee /run/dayfly/exit.json >/var/lib/dayfly/exit.json
chmod 600 /opt/actions-runner/_diag/*; chown 1001:1001 /opt/actions-runner/_diag/*
`

// TestEvidenceOutlivesTheContainer has it power off without a moment's notice.
func TestEvidenceOutlivesTheContainer(t *testing.T) {
	n := newNode(t, nil)
	n.made(testID)
	j := n.boot(testID)
	must(t, n.inject(testID))
	j.sh(leave)
	j.gone()
	e := n.collect(testID)
	if !e.Over || e.Name != testName || e.Exit != "exited 0: its work was over" {
		t.Errorf("evidence: %+v", e)
	}
	want := []string{"/opt/actions-runner/_diag/Runner_1.log", "/opt/actions-runner/_diag/Worker_1.log", "/run/dayfly/exit.json",
		"/run/dayfly/job/started", "/var/lib/dayfly/exit.json", "/var/lib/dayfly/started"}
	if got := paths(e); !slices.Equal(got, want) {
		t.Errorf("files %q, want %q; missed %q", got, want, e.Missed)
	}
	if got := e.text("/opt/actions-runner/_diag/Worker_1.log"); got != "a job ran\n" {
		t.Errorf("the worker's log is %q", got)
	}
	if e.Stats.Disk == 0 {
		t.Errorf("stats: %+v", e.Stats)
	}
	if held := open(t, "root-"+fmt.Sprint(testID)); held != 0 {
		t.Errorf("%d files of the container are still open", held)
	}
	// A new boot of the same number begins anew.
	n.boot(testID)
	if e := n.collect(testID); e.Over || len(e.Files) == 0 {
		t.Errorf("the boot that runs: %+v", e)
	}
}

// open counts our descriptors of files whose path has a part.
func open(t *testing.T, part string) (count int) {
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.Contains(to, part) {
			count++
		}
	}
	return count
}

// TestTrapsYieldNothingAndHangNobody plants what a job's root could.
func TestTrapsYieldNothingAndHangNobody(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(outside, []byte("canary of the node\n"), 0o600))
	for name, trap := range map[string]string{
		"a link":                    "ln -s /etc/shadow /opt/actions-runner/_diag/a.log",
		"a link out":                "ln -s /proc/1/root" + outside + " /opt/actions-runner/_diag/a.log",
		"a link by the root":        "ln -s ../../../../../../.." + outside + " /opt/actions-runner/_diag/a.log",
		"the folder is a link":      "rmdir /opt/actions-runner/_diag; ln -s /etc /opt/actions-runner/_diag",
		"a folder above is a link":  "rm -r /opt/actions-runner; ln -s /proc/1 /opt/actions-runner",
		"a pipe":                    "cd /opt/actions-runner/_diag; mkfifo a.log; (echo x >a.log; touch /opened) >/dev/null 2>&1 &",
		"a socket":                  "cd /opt/actions-runner/_diag; timeout 1 perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local=>\"a.log\",Listen=>1)' || mkfifo a.log",
		"a device":                  "touch /opt/actions-runner/_diag/a.log; mount --bind /dev/zero /opt/actions-runner/_diag/a.log",
		"a file of the kernel":      "touch /opt/actions-runner/_diag/a.log; mount --bind /proc/kmsg /opt/actions-runner/_diag/a.log",
		"a file system in the way":  "mount -t tmpfs tmpfs /opt/actions-runner/_diag; echo canary of >/opt/actions-runner/_diag/a.log",
		"a folder in a file's name": "mkdir /var/lib/dayfly/exit.json",
		"a hole":                    "truncate -s 900G /opt/actions-runner/_diag/a.log",
		"many files":                "cd /opt/actions-runner/_diag; i=0; while [ $i -lt 3000 ]; do : >f$i; i=$((i+1)); done",
		"a name for a terminal":     "cd /opt/actions-runner/_diag; touch \"$(printf 'a\\033]0;x\\007.log')\"",
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, nil)
			n.made(testID)
			j := n.boot(testID)
			must(t, n.inject(testID))
			j.sh(trap)
			began := time.Now()
			live := n.collect(testID)
			odd := name == "a pipe" || name == "a socket" || name == "a folder in a file's name"
			if odd && !strings.Contains(strings.Join(live.Missed, "\n"), ": not a regular file") {
				t.Errorf("nothing is missed: %q", live.Missed)
			}
			if got := j.sh("sleep 0.05; ls /opened 2>/dev/null || true"); got != "" {
				t.Error("the pipe was opened")
			}
			j.gone()
			for _, e := range []Evidence{live, n.collect(testID)} {
				size := 0
				for _, f := range e.Files {
					size += len(f.Data)
					if strings.Contains(string(f.Data), "canary of") || strings.ContainsAny(f.Path, "\033\007") {
						t.Errorf("collected %q: %.60q", f.Path, f.Data)
					}
				}
				if size > collectBytes || len(e.Files) > collectFiles || len(e.Missed) > collectFiles {
					t.Errorf("%d bytes in %d files, %d missed", size, len(e.Files), len(e.Missed))
				}
			}
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestRenamesThatRaceLeadNowhere swaps a file for a link as fast as it can.
func TestRenamesThatRaceLeadNowhere(t *testing.T) {
	n := newNode(t, nil)
	n.made(testID)
	j := n.boot(testID)
	must(t, n.inject(testID))
	j.sh(`cd /opt/actions-runner/_diag; echo canary of the guest >/etc/shadow; echo good >good; ln -s /etc/shadow bad
		(while :; do ln -f good a.log; ln -sf /etc/shadow b; mv -f b a.log; done) >/dev/null 2>&1 &`)
	for range 300 {
		e := n.collect(testID)
		if got := e.text("/opt/actions-runner/_diag/a.log"); got != "" && got != "good\n" {
			t.Fatalf("collected %q", got)
		}
	}
}

// TestFUSEHangsNobody mounts a file system that never answers. Root of the node
// is refused there before it is asked anything (fs/fuse/dir.c).
func TestFUSEHangsNobody(t *testing.T) {
	n := newNode(t, nil)
	n.made(testID)
	j := n.boot(testID)
	must(t, n.inject(testID))
	// The machine's own may be closed to everybody but root.
	device := filepath.Join(n.dir, fmt.Sprint("root-", testID), "fuse")
	must(t, unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))), os.Chmod(device, 0o666))
	if out, err := j.try(`exec 7<>/fuse && mount -t fuse -o fd=7,rootmode=40000,user_id=0,group_id=0,allow_other fuse /opt/actions-runner/_diag &&
		{ sleep 600 <&7 >/dev/null 2>&1 & } && mkdir -p /run/x && mount --bind /opt/actions-runner/_diag /run/dayfly`); err != nil {
		t.Skipf("needs FUSE in a user namespace: %s", out)
	}
	began := time.Now()
	n.collect(testID)
	if _, err := n.c.Busy(t.Context(), testID); err != nil {
		t.Error(err)
	}
	j.gone()
	n.collect(testID)
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestDiskThatIsFullIsSaid(t *testing.T) {
	t.Setenv(jailSize, "8m")
	n := newNode(t, nil)
	n.made(testID)
	j := n.boot(testID)
	stats := func() Stats {
		t.Helper()
		s, err := n.c.Stats(t.Context(), testID)
		must(t, err)
		return s
	}
	if s := stats(); s.DiskFull || s.DiskFree < 1<<20 || s.InodesFree == 0 {
		t.Errorf("before: %+v", s)
	}
	j.sh("dd if=/dev/zero of=/fill bs=64k 2>/dev/null || true")
	if s := stats(); !s.DiskFull || s.Disk < 7<<20 {
		t.Errorf("after: %+v", s)
	}
	j.gone()
	if e := n.collect(testID); !e.Stats.DiskFull {
		t.Errorf("at the end: %+v", e.Stats)
	}
}

func TestWorkerIsSeenWhileItLives(t *testing.T) {
	n := newNode(t, nil)
	n.made(testID)
	j := n.boot(testID)
	must(t, n.inject(testID))
	look := func() Work {
		t.Helper()
		w, err := n.c.Busy(t.Context(), testID)
		must(t, err)
		return w
	}
	if w := look(); w.Worker || w.Started || !w.Taken {
		t.Errorf("before the job: %+v", w)
	}
	j.sh(`cp /bin/sleep /tmp/Runner.Worker; mkdir /run/dayfly/job; date >/run/dayfly/job/started; /tmp/Runner.Worker 600 >/dev/null 2>&1 & echo $! >/tmp/pid`)
	deadline := time.Now().Add(5 * time.Second)
	for !look().Worker && time.Now().Before(deadline) {
	}
	if w := look(); !w.Worker || !w.Started || w.Completed {
		t.Errorf("during the job: %+v", w)
	}
	j.sh("date >/run/dayfly/job/completed; kill -9 $(cat /tmp/pid)")
	for look().Worker && time.Now().Before(deadline) {
	}
	if w := look(); w.Worker || !w.Completed {
		t.Errorf("after the job: %+v", w)
	}
}

// Without a config there is no job: nobody waits for a look at each process. Where
// one was, what the job's root removes hides no worker.
func TestWorkerIsSoughtWhereAConfigWas(t *testing.T) {
	n := newNode(t, nil)
	n.made(testID)
	j := n.boot(testID)
	look := func() Work {
		t.Helper()
		w, err := n.c.Busy(t.Context(), testID)
		must(t, err)
		w.Boot = ""
		return w
	}
	j.sh(`cp /bin/sleep /tmp/Runner.Worker; /tmp/Runner.Worker 600 >/dev/null 2>&1 &`)
	if w := look(); w != (Work{}) {
		t.Errorf("before a config: %+v", w)
	}
	must(t, n.inject(testID))
	j.sh("rm -rf /run/dayfly/* /var/lib/dayfly/*")
	deadline := time.Now().Add(5 * time.Second)
	for !look().Worker && time.Now().Before(deadline) {
	}
	if w := look(); w != (Work{Worker: true, Taken: true}) {
		t.Errorf("after one: %+v", w)
	}
}

// TestCgroupsWithoutNumberAreNotWalked: a container's root makes as many as it
// likes, and waits longer for nobody but itself.
func TestCgroupsWithoutNumberAreNotWalked(t *testing.T) {
	n := newNode(t, nil)
	n.made(testID)
	n.boot(testID)
	must(t, n.inject(testID))
	if w, err := n.c.Busy(t.Context(), testID); err != nil || w.Worker {
		t.Fatalf("before: %+v, %v", w, err)
	}
	for i := range maxCgroups {
		must(t, os.Mkdir(filepath.Join(n.s.cgroup(testID), fmt.Sprint("a", i)), 0o755))
	}
	if w, err := n.c.Busy(t.Context(), testID); !errors.Is(err, fleet.ErrUnavailable) || !strings.Contains(err.Error(), "more than 4096 cgroups") {
		t.Errorf("after: %+v, %v", w, err)
	}
}

// TestWatchTellsOfStartsAndEnds measures how long it takes, too.
func TestWatchTellsOfStartsAndEnds(t *testing.T) {
	n := newNode(t, nil)
	next := func(mark string) View {
		t.Helper()
		v, err := n.c.Watch(t.Context(), mark)
		must(t, err)
		return v
	}
	v := next("")
	if len(v.Running) != 0 {
		t.Fatalf("at first: %+v", v)
	}
	j := n.boot(testID)
	v = next(v.Mark)
	if len(v.Running) != 1 || v.Running[0].VMID != testID {
		t.Fatalf("after the start: %+v", v)
	}
	first := v.Running[0].Boot
	began := time.Now()
	j.end() // its cgroup stays, as after a crash of LXC's monitor
	v = next(v.Mark)
	if took := time.Since(began); len(v.Running) != 0 || took > time.Second {
		t.Errorf("after the end: %+v, told after %s", v, took)
	}
	j.gone()
	n.boot(testID)
	if v = next(v.Mark); len(v.Running) != 1 || v.Running[0].Boot == first {
		t.Errorf("after another start: %+v, the first was %s", v, first)
	}
	if stale := next("of another life"); stale.Mark != v.Mark {
		t.Errorf("an unknown mark: %+v", stale)
	}
}

func TestRepairRunsTheNodesToolOnOursOnly(t *testing.T) {
	n := newNode(t, nil)
	log := func() string {
		text, _ := os.ReadFile(filepath.Join(n.dir, "pct.log"))
		_ = os.Remove(filepath.Join(n.dir, "pct.log"))
		return strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "; ")
	}
	try := func(do, want string, kind error) {
		t.Helper()
		if err := n.c.Repair(t.Context(), testID, testName, do); !errors.Is(err, kind) {
			t.Errorf("%s: %v, want %v", do, err, kind)
		}
		if got := log(); got != want {
			t.Errorf("%s ran %q, want %q", do, got, want)
		}
	}
	try(Unlock, "", fleet.ErrNotFound)
	n.members() // half-made: not in its resource pool yet
	n.made(testID, "lock: create")
	try("sh -c reboot", "", fleet.ErrInvalid)
	try(Unlock, "unlock 20001", nil)
	try(Remove, "unlock 20001; destroy 20001", nil)
	n.made(testID) // whole, but not in our resource pool: somebody took it out
	try(Remove, "", fleet.ErrDenied)
	n.made(testID, "template: 1", "lock: disk") // somebody made a template of it
	try(Remove, "", fleet.ErrDenied)
	n.write(testID, "", "", "lock: destroyed")
	try(Remove, "unlock 20001; destroy 20001", nil)
	for _, id := range []fleet.VMID{19999, 20100} {
		n.write(id, "", "", "lock: destroyed")
		if err := n.c.Repair(t.Context(), id, testName, Remove); !errors.Is(err, fleet.ErrDenied) || log() != "" {
			t.Errorf("%d, which is not in the range: %v", id, err)
		}
	}
	n.write(testID, "another", "", "lock: create")
	try(Remove, "", fleet.ErrDenied)
	n.made(testID, "lock: create")
	must(t, os.WriteFile(filepath.Join(n.dir, "active"), []byte(fmt.Sprintf("UPID:pve1:%08X:0001:65000000:vzclone:9000:dayfly@pve!mgr: 0\n", os.Getpid())), 0o644))
	try(Remove, "", fleet.ErrBusy)
	must(t, os.WriteFile(filepath.Join(n.dir, "active"), []byte(fmt.Sprintf("UPID:pve1:%08X:0001:65000000:vzclone:9000:dayfly@pve!mgr: 1 65000001 OK\n", os.Getpid())), 0o644))
	try(Remove, "unlock 20001; destroy 20001", nil)
	n.members(testID)
	n.boot(testID)
	try(Remove, "", fleet.ErrBusy)
}

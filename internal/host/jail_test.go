//go:build linux

package host

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// A jail stands in for a Proxmox node's container: a process that is the first
// of its own user, PID, mount and cgroup namespaces, in the cgroup where LXC
// puts it, with a root and a /run of its own. What a test has it do, it does as
// root in there.

const (
	jailMark = "DAYFLY_TEST_JAIL"
	jailSize = "DAYFLY_TEST_JAIL_SIZE" // of its root file system; empty: the machine's
)

func TestMain(m *testing.M) {
	if root := os.Getenv(jailMark); root != "" {
		jailed(root)
	}
	if socket := os.Getenv(askMark); socket != "" {
		greet(socket)
	}
	os.Exit(m.Run())
}

var testKey = fleet.NewSecret("0123456789abcdef0123456789abcdef")

const (
	testID   fleet.VMID = 20001
	testName            = "dayfly-linux-0badcafe01234567"
)

// node is a root half on a node of its own.
type node struct {
	t   *testing.T
	s   *Server
	c   *Client
	dir string
	cg  string
}

// newNode makes one, or skips the test where that is not possible.
func newNode(t *testing.T, change func(*Config)) *node {
	t.Helper()
	n := &node{t: t, cg: scratchCgroup(t)}
	var err error
	if n.dir, err = os.MkdirTemp("", "dayfly-host-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(n.dir) })
	must(t, os.Chmod(n.dir, 0o755), os.MkdirAll(filepath.Join(n.dir, "pve/nodes/pve1/lxc"), 0o755))
	cfg := Node()
	cfg.Node, cfg.Version, cfg.First, cfg.Last, cfg.Pool, cfg.Key = "pve1", "test", 20000, 20099, "dayfly-runners", testKey
	cfg.PVE, cfg.Cgroup, cfg.Tasks, cfg.Rules = filepath.Join(n.dir, "pve"), n.cg, filepath.Join(n.dir, "active"), nil
	cfg.PCT = []string{n.script("pct", `echo "$@" >>`+n.dir+`/pct.log`)}
	cfg.FirewallNap = 5 * time.Millisecond
	if change != nil {
		change(&cfg)
	}
	if n.s, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	n.members(testID)
	srv := httptest.NewServer(n.s.Handler())
	n.c = Over("test", srv.URL, srv.Client().Transport)
	done := make(chan error, 1)
	ctx := t.Context()
	go func() { done <- n.s.Run(ctx) }()
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return n
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func (n *node) script(name, text string) string {
	path := filepath.Join(n.dir, name)
	must(n.t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	return path
}

func (n *node) members(ids ...fleet.VMID) {
	list := strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), " ", ","), "[]")
	text := "user:dayfly@pve:1:0::::::\npool:other::30000::\npool:dayfly-runners:our%3a runners:" + list + "::\n"
	must(n.t, os.WriteFile(filepath.Join(n.dir, "pve/user.cfg"), []byte(text), 0o644))
}

// made writes the node's file of a container of ours.
func (n *node) made(id fleet.VMID, more ...string) {
	n.t.Helper()
	m := fleet.Manifest{Schema: 1, Name: testName, Pool: "linux", Scope: "acme", VMID: id, Node: "pve1", Configured: true}
	n.write(id, testName, m.Sign(testKey), more...)
}

func (n *node) write(id fleet.VMID, name, description string, more ...string) {
	n.t.Helper()
	var b strings.Builder
	for line := range strings.Lines(strings.TrimRight(description, "\n")) {
		b.WriteString("#" + strings.ReplaceAll(url.PathEscape(strings.TrimRight(line, "\n")), "%20", " ") + "\n")
	}
	fmt.Fprintf(&b, "arch: amd64\nhostname: %s\n%s\n[snap]\nhostname: wrong\nlock: wrong\n", name, strings.Join(more, "\n"))
	must(n.t, os.WriteFile(filepath.Join(n.dir, "pve/nodes/pve1/lxc", fmt.Sprintf("%d.conf", id)), []byte(b.String()), 0o640))
}

// scratchCgroup makes a cgroup2 directory that stands in for the node's root.
func scratchCgroup(t *testing.T) string {
	if os.Getuid() != 0 {
		t.Skip("needs root: the containers are namespaces and cgroups of their own")
	}
	top := ""
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(mounts)) {
		if before, after, _ := strings.Cut(line, " - "); strings.HasPrefix(after, "cgroup2 ") {
			top = strings.Fields(before)[4]
		}
	}
	if top == "" {
		t.Skip("needs cgroup2: none is mounted")
	}
	dir, err := os.MkdirTemp(top, "dayfly-host-")
	if err != nil {
		t.Skipf("needs a cgroup2 tree that can be written: %v", err)
	}
	t.Cleanup(func() { removeCgroup(t, dir) })
	return dir
}

// removeCgroup removes a tree of cgroups: the kernel lets go of them a little
// after their last process.
func removeCgroup(t *testing.T, dir string) {
	for range 200 {
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				_ = os.Remove(path)
			}
			return nil
		})
		if err := os.Remove(dir); errors.Is(err, os.ErrNotExist) {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Errorf("cgroup %s is left", dir)
}

// jail is a running container.
type jail struct {
	n   *node
	id  fleet.VMID
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
	end func()
}

// boot starts a container.
func (n *node) boot(id fleet.VMID) *jail {
	n.t.Helper()
	root := filepath.Join(n.dir, fmt.Sprint("root-", id))
	must(n.t, os.MkdirAll(root, 0o755), os.Chown(root, 100000, 100000))
	inner := filepath.Join(n.s.cgroup(id), "ns")
	must(n.t, os.MkdirAll(inner, 0o755))
	cg, err := os.Open(inner)
	must(n.t, err)
	defer cg.Close()
	j := &jail{n: n, id: id, cmd: exec.Command("/proc/self/exe")}
	j.cmd.Env = append(os.Environ(), jailMark+"="+root)
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
	j.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWCGROUP | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		UidMappings: ids, GidMappings: ids, Credential: &syscall.Credential{}, GidMappingsEnableSetgroups: true,
		UseCgroupFD: true, CgroupFD: int(cg.Fd()), // no Pdeathsig: it comes with the death of a thread
	}
	in, err := j.cmd.StdinPipe()
	must(n.t, err)
	out, err := j.cmd.StdoutPipe()
	must(n.t, err)
	j.cmd.Stderr = os.Stderr
	if err := j.cmd.Start(); err != nil {
		n.t.Skipf("needs user namespaces: %v", err)
	}
	j.in, j.out = json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))
	over := false
	j.end = func() {
		if over {
			return
		}
		over = true
		_ = j.cmd.Process.Kill()
		_ = j.cmd.Wait()
	}
	n.t.Cleanup(j.end)
	j.sh("true")
	return j
}

// gone ends the container and removes its cgroup, as LXC does.
func (j *jail) gone() {
	j.end()
	removeCgroup(j.n.t, j.n.s.cgroup(j.id))
}

type reply struct {
	Out  string
	Fail string
}

// try has the container's root run a shell command.
func (j *jail) try(command string) (string, error) {
	j.n.t.Helper()
	must(j.n.t, j.in.Encode(command))
	var r reply
	must(j.n.t, j.out.Decode(&r))
	if r.Fail != "" {
		return r.Out, errors.New(r.Fail + ": " + r.Out)
	}
	return r.Out, nil
}

func (j *jail) sh(command string) string {
	j.n.t.Helper()
	out, err := j.try(command)
	if err != nil {
		j.n.t.Fatalf("in the container: %s: %v", command, err)
	}
	return strings.TrimSpace(out)
}

// jailed is the container's first process. It never returns.
func jailed(root string) {
	if err := enter(root); err != nil {
		fmt.Fprintln(os.Stderr, "jail:", err)
		os.Exit(1)
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var command string
		if in.Decode(&command) != nil {
			os.Exit(0)
		}
		text, err := exec.Command("/bin/sh", "-c", command).CombinedOutput()
		r := reply{Out: string(text)}
		if err != nil {
			r.Fail = err.Error()
		}
		_ = out.Encode(r)
	}
}

func enter(root string) error {
	if size := os.Getenv(jailSize); size != "" {
		if err := unix.Mount("tmpfs", root, "tmpfs", 0, "mode=755,size="+size); err != nil {
			return err
		}
	}
	for _, dir := range []string{"usr", "bin", "lib", "lib64", "sbin", "etc", "dev", "proc", "run", "tmp", "var/lib/dayfly", "opt/actions-runner/_diag", "old"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	mount := func(source, target, kind string, flags uintptr, data string) error {
		if err := unix.Mount(source, target, kind, flags, data); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
		return nil
	}
	errs := []error{mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), mount(root, root, "", unix.MS_BIND|unix.MS_REC, "")}
	for _, dir := range []string{"usr", "bin", "lib", "lib64", "sbin", "dev"} {
		if _, err := os.Stat("/" + dir); err == nil {
			errs = append(errs, mount("/"+dir, filepath.Join(root, dir), "", unix.MS_BIND|unix.MS_REC, ""))
		}
	}
	errs = append(errs,
		mount("proc", filepath.Join(root, "proc"), "proc", 0, ""),
		mount("tmpfs", filepath.Join(root, "run"), "tmpfs", 0, "mode=755,size=4m"),
		unix.PivotRoot(root, filepath.Join(root, "old")), os.Chdir("/"),
		unix.Unmount("/old", unix.MNT_DETACH),
	)
	_ = os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
	return errors.Join(errs...)
}

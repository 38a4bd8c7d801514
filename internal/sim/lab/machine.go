//go:build linux

package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// Machine is a pve.Machine of real containers. The zero value is ready for
// use, in a sandbox.
type Machine struct {
	unpacking sync.Mutex
	mu        sync.Mutex
	live      map[int]*container
}

var _ pve.Machine = (*Machine)(nil)

// container is one boot of one container.
type container struct {
	vmid  int
	start *exec.Cmd // lxc-start, in the foreground, as in Proxmox's unit
	init  int       // pid of its init, in the sandbox
	ended chan struct{}

	options map[string]string
}

// Ids of a container are those of the machine from here on.
const (
	firstID = 100000
	idCount = 65536
)

func idMap(kind string) string { return fmt.Sprintf("%s:0:%d:%d", kind, firstID, idCount) }

// startLimit bounds the wait for init (PVE::LXC: 10 s).
const startLimit = 10 * time.Second

// Start implements pve.Machine.
func (m *Machine) Start(l pve.Launch) (<-chan struct{}, error) {
	id := strconv.Itoa(l.VMID)
	rootfs, there := l.Volumes["rootfs"]
	if !there {
		return nil, fmt.Errorf("container %s has no rootfs", id)
	}
	cleanGroups(id) // as Proxmox does: stale ones keep LXC from starting
	if err := m.dress(l, dir(rootfs)); err != nil {
		return nil, fmt.Errorf("set up container %s: %w", id, err)
	}
	told, fifo, err := startPipe(id)
	if err != nil {
		return nil, err
	}
	defer told.Close()
	if err := m.configure(l, dir(rootfs), fifo); err != nil {
		return nil, fmt.Errorf("configure container %s: %w", id, err)
	}
	c := &container{vmid: l.VMID, ended: make(chan struct{}), options: l.Options}
	if c.start, err = lxcStart(id); err != nil {
		return nil, err
	}
	m.mu.Lock()
	if m.live == nil {
		m.live = map[int]*container{}
	}
	m.live[l.VMID] = c
	m.mu.Unlock()
	go m.wait(c)
	// As with pve-firewall, the rules come when the container has begun: loading
	// them would hold its network up.
	if c.init, err = initPid(told, c.ended); err == nil {
		err = m.filterUp(l.VMID, l.Options)
		select {
		case <-c.ended: // before there were any
			unfilter(l.VMID)
		default:
		}
	}
	if err != nil {
		_ = m.Kill(l.VMID)
		return nil, fmt.Errorf("start container %s: %w: %s", id, err, lastLines(filepath.Join(logDir, id+".log"), 4))
	}
	return c.ended, nil
}

// lxcStart starts a container in the foreground. Where memory and pids are
// bounded by cgroup v1, it is born in its groups there.
func lxcStart(id string) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(logDir, id+".console"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	script := `for d in ` + oldDir + `/*/` + id + `; do [ ! -d "$d" ] || echo 0 >"$d/cgroup.procs"; done; exec lxc-start -F -n "$0" -o "$1" -l NOTICE`
	_ = os.Remove(filepath.Join(logDir, id+".log"))
	cmd := exec.Command("/bin/sh", "-c", script, id, filepath.Join(logDir, id+".log"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/root"}
	return cmd, cmd.Start()
}

// startPipe is where the start hook says the pid of init.
func startPipe(id string) (*os.File, string, error) {
	path := filepath.Join(runDir, "start-"+id)
	_ = os.Remove(path)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	return f, path, err
}

func initPid(told *os.File, ended <-chan struct{}) (int, error) {
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	_ = told.SetReadDeadline(time.Now().Add(startLimit))
	go func() {
		buf := make([]byte, 64)
		n, err := told.Read(buf)
		got <- answer{string(buf[:n]), err}
	}()
	select {
	case a := <-got:
		if a.err != nil {
			return 0, a.err
		}
		return strconv.Atoi(strings.TrimSpace(a.text))
	case <-ended:
		return 0, errors.New("it ended before its init ran")
	}
}

// wait follows a container to its end and clears up behind it.
func (m *Machine) wait(c *container) {
	_ = c.start.Wait()
	m.mu.Lock()
	if m.live[c.vmid] == c {
		delete(m.live, c.vmid)
	}
	m.mu.Unlock()
	id := strconv.Itoa(c.vmid)
	cleanGroups(id)
	unfilter(c.vmid)
	_ = os.Remove(filepath.Join(runDir, "start-"+id))
	close(c.ended)
}

// cleanGroups removes the cgroups of a container that does not run
// (PVE::LXC::Tools, cleanup_cgroups).
func cleanGroups(id string) {
	dirs := []string{filepath.Join(groupDir, "lxc", id), filepath.Join(groupDir, "lxc.monitor", id)}
	old, _ := filepath.Glob(filepath.Join(oldDir, "*", id))
	for range 50 {
		gone := true
		for _, d := range append(dirs, old...) {
			if _, err := os.Stat(d); err == nil && !removeGroup(d) {
				gone = false
			}
		}
		if gone {
			return
		}
		time.Sleep(4 * time.Millisecond)
	}
}

func (m *Machine) running(vmid int) *container {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live[vmid]
}

// Init is the pid of a container's init as the sandbox sees it, 0 when it does
// not run.
func (m *Machine) Init(vmid int) int {
	if c := m.running(vmid); c != nil {
		return c.init
	}
	return 0
}

// Kill implements pve.Machine: without its init, nothing of a container runs.
func (m *Machine) Kill(vmid int) error {
	c := m.running(vmid)
	if c == nil {
		return nil
	}
	if c.init > 0 {
		c.begun()
		_ = unix.Kill(c.init, unix.SIGKILL)
	} else {
		_ = c.start.Process.Kill()
	}
	select {
	case <-c.ended:
		return nil
	case <-time.After(killPatience):
	}
	// Something in it cannot be waited for by its init, or LXC's monitor hangs:
	// what the node's service manager does then.
	_ = os.WriteFile(filepath.Join(groupDir, "lxc", strconv.Itoa(vmid), "cgroup.kill"), []byte("1"), 0o644)
	_ = c.start.Process.Kill()
	select {
	case <-c.ended:
		return nil
	case <-time.After(killPatience):
		return fmt.Errorf("container %d does not end", vmid)
	}
}

// begun waits until init is a program of the container's. Before that, LXC's
// monitor waits for what init has to tell it, also when there is no init any more.
// Proxmox's start ends when LXC says that the container runs (believed).
func (c *container) begun() {
	exe := "/proc/" + strconv.Itoa(c.init) + "/exe"
	for until := time.Now().Add(startLimit); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if program, err := os.Readlink(exe); err != nil || filepath.Base(program) != "lxc-start" {
			return
		}
	}
}

// killPatience is how long a container may take to end (systemd's
// TimeoutStopSec for pve-container@ is 90 s; nobody here waits that long).
const killPatience = 15 * time.Second

// Shutdown implements pve.Machine.
func (m *Machine) Shutdown(vmid int, limit time.Duration) bool {
	c := m.running(vmid)
	if c == nil {
		return true
	}
	seconds := strconv.Itoa(int(limit.Seconds()))
	_ = run("lxc-stop", "-n", strconv.Itoa(vmid), "--nokill", "--timeout", seconds)
	select {
	case <-c.ended:
		return true
	default:
	}
	return m.running(vmid) == nil
}

// Interfaces implements pve.Machine, with the same command as Proxmox.
func (m *Machine) Interfaces(vmid int) ([]pve.NetInterface, error) {
	pid := m.Init(vmid)
	if pid == 0 {
		return nil, fs.ErrNotExist
	}
	out, err := exec.Command("nsenter", "--target", strconv.Itoa(pid), "--net", "--", "ip", "--json", "address").Output()
	if err != nil {
		return nil, err
	}
	var list []struct {
		Name  string `json:"ifname"`
		MAC   string `json:"address"`
		Infos []struct {
			Family, Local string
			Prefix        int `json:"prefixlen"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, err
	}
	var found []pve.NetInterface
	for _, i := range list {
		n := pve.NetInterface{Name: i.Name, MAC: i.MAC}
		for _, a := range i.Infos {
			text := fmt.Sprintf("%s/%d", a.Local, a.Prefix)
			if a.Family == "inet" {
				n.Inet = append(n.Inet, text)
			} else {
				n.Inet6 = append(n.Inet6, text)
			}
		}
		found = append(found, n)
	}
	return found, nil
}

// Publish implements pve.Machine.
func (m *Machine) Publish(name, text string) {
	path := filepath.Join(pveDir, name)
	if text == "" {
		_ = os.Remove(path)
	} else {
		part := path + ".tmp"
		if os.WriteFile(part, []byte(text), 0o640) != nil || os.Rename(part, path) != nil {
			_ = os.Remove(part) // the folder of another node: nobody reads it here
		}
	}
	if id, ok := strings.CutSuffix(filepath.Base(name), ".fw"); ok {
		if vmid, err := strconv.Atoi(id); err == nil {
			m.refilter(vmid)
		}
	}
}

// lastLines are the last lines of a file that say something.
func lastLines(path string, n int) string {
	text, _ := os.ReadFile(path)
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte("; ")))
}

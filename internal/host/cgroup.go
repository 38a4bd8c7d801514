//go:build linux

package host

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Proxmox puts a container's processes into lxc/VMID of the node's cgroup2
// tree, and LXC's monitor elsewhere (lxc.cgroup.dir.container of pve-container,
// PVE/LXC.pm): what is said here is true though the monitor has crashed.

// Bounds of a walk through a container's cgroups, which its root may multiply.
const (
	maxCgroups = 4096
	maxPIDs    = 32 << 10
)

func (s *Server) cgroup(id fleet.VMID) string {
	return filepath.Join(s.cfg.Cgroup, "lxc", strconv.Itoa(int(id)))
}

// boot is the id of a container's boot, or "" if it does not run. LXC makes the
// cgroup anew for each, and the kernel never gives two the same inode.
func (s *Server) boot(id fleet.VMID) string {
	dir := s.cgroup(id)
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || !populated(dir) {
		return ""
	}
	return strconv.FormatUint(st.Ino, 16)
}

// populated reports whether a process lives in a cgroup or below it.
func populated(dir string) bool {
	text, err := readBounded(filepath.Join(dir, "cgroup.events"))
	return err == nil && strings.Contains(text, "populated 1")
}

// Where in a container's cgroups a process is to be found, in most of them.
var (
	initHomes   = []string{"ns/init.scope", "ns/.lxc", "ns", "init.scope"}
	workerHomes = []string{"ns/system.slice/dayfly-runner.service"}
)

// eachPID calls f with every process of a container and the file that lists it,
// until f is done. It looks into some of its cgroups first.
func (s *Server) eachPID(id fleet.VMID, homes []string, f func(pid int, file string) (done bool)) error {
	top := s.cgroup(id)
	pids := 0
	visit := func(dir string) (bool, error) {
		file := filepath.Join(dir, "cgroup.procs")
		for _, pid := range readPIDs(file) {
			if pids++; pids > maxPIDs {
				return true, fmt.Errorf("container %d has more than %d processes: %w", id, maxPIDs, fleet.ErrUnavailable)
			}
			if f(pid, file) {
				return true, nil
			}
		}
		return false, nil
	}
	for _, first := range homes {
		if done, err := visit(filepath.Join(top, first)); done {
			return err
		}
	}
	dirs := 0
	var problem error
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // gone meanwhile, or a file
		}
		if dirs++; dirs > maxCgroups {
			problem = fmt.Errorf("container %d has more than %d cgroups: %w", id, maxCgroups, fleet.ErrUnavailable)
			return fs.SkipAll
		}
		done, err := visit(path)
		if done {
			problem = err
			return fs.SkipAll
		}
		return nil
	})
	if problem != nil {
		return problem
	}
	return err
}

// readPIDs reads a cgroup's processes. In a threaded cgroup the file cannot be
// read: no init lives in one.
func readPIDs(file string) []int {
	text, err := readBounded(file)
	if err != nil {
		return nil
	}
	var pids []int
	for line := range strings.Lines(text) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// status reads one line of a process's status.
func (s *Server) status(pid int, key string) []string {
	text, err := readBounded(filepath.Join(s.cfg.Proc, strconv.Itoa(pid), "status"))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.Fields(rest)
		}
	}
	return nil
}

// isInit reports whether a process is the first of a PID namespace right below
// ours: Docker's own containers are further down.
func (s *Server) isInit(pid int) bool {
	ids := s.status(pid, "NSpid")
	return len(ids) == 2 && ids[1] == "1"
}

// workerName is what the kernel calls the runner's worker process, one for
// each job.
const workerName = "Runner.Worker"

// working reports whether a worker process lives in the container. A job could
// forge one, and then is not disturbed until its hard limit, or hide it, and
// then only its own end comes early.
func (s *Server) working(id fleet.VMID) (found bool, err error) {
	err = s.eachPID(id, workerHomes, func(pid int, _ string) bool {
		text, err := readBounded(filepath.Join(s.cfg.Proc, strconv.Itoa(pid), "comm"))
		found = err == nil && strings.TrimSpace(text) == workerName
		return found
	})
	return found, err
}

// measure reads what the cgroup counts. Controllers that are off count nothing.
func (s *Server) measure(id fleet.VMID) Stats {
	dir := s.cgroup(id)
	number := func(file string) int64 {
		text, _ := readBounded(filepath.Join(dir, file))
		n, _ := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		return n
	}
	field := func(file, key string) int64 {
		text, _ := readBounded(filepath.Join(dir, file))
		for line := range strings.Lines(text) {
			if rest, ok := strings.CutPrefix(line, key+" "); ok {
				n, _ := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
				return n
			}
		}
		return 0
	}
	return Stats{
		Memory: max(number("memory.peak"), number("memory.current")), Processes: number("pids.peak"),
		CPU: microseconds(field("cpu.stat", "usage_usec")), OOMKills: field("memory.events", "oom_kill"),
	}
}

//go:build linux

package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// groupPrefix begins the name of a sandbox's cgroup; its keeper's pid follows.
const groupPrefix = "dayfly-lab."

// groups are the cgroups of one sandbox. On a machine whose memory and pids
// controllers are in cgroup v1, there is one in each of these as well.
type groups struct {
	unified *os.File
	olds    []string // folders of cgroup v1
}

// unifiedMount is where cgroup2 is mounted.
func unifiedMount() (string, error) {
	for _, m := range cgroupMounts() {
		if m.kind == "cgroup2" {
			return m.at, nil
		}
	}
	return "", errors.New("there is no cgroup2 mount")
}

type cgroupMount struct {
	at, kind string
	options  []string
}

// cgroupMounts are the lines of /proc/self/mountinfo (proc(5)) about cgroups.
func cgroupMounts() []cgroupMount {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	var list []cgroupMount
	for lines := bufio.NewScanner(f); lines.Scan(); {
		left, right, _ := strings.Cut(lines.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if len(l) > 4 && len(r) > 2 && strings.HasPrefix(r[0], "cgroup") {
			list = append(list, cgroupMount{at: l[4], kind: r[0], options: strings.Split(r[2], ",")})
		}
	}
	return list
}

// controllers bound what a container takes. The others are not needed.
var controllers = []string{"memory", "pids"}

func makeGroups() (*groups, error) {
	mount, err := unifiedMount()
	if err != nil {
		return nil, err
	}
	name := groupPrefix + strconv.Itoa(os.Getpid())
	g := new(groups)
	for _, m := range cgroupMounts() {
		if m.kind != "cgroup" || !slices.ContainsFunc(controllers, func(c string) bool { return slices.Contains(m.options, c) }) {
			continue
		}
		sweep(m.at)
		if dir := filepath.Join(m.at, name); os.Mkdir(dir, 0o755) == nil {
			g.olds = append(g.olds, dir)
		}
	}
	sweep(mount)
	dir := filepath.Join(mount, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		g.remove()
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	if g.unified, err = os.Open(dir); err != nil {
		g.remove()
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	return g, nil
}

// within runs start while this process is in the cgroups of v1, which a new
// process inherits; in that of v2 it is born.
func (g *groups) within(start func() error) error {
	var back []string
	own, _ := os.ReadFile("/proc/self/cgroup")
	for _, dir := range g.olds {
		mount := filepath.Dir(dir)
		if err := join(dir); err != nil {
			return err
		}
		back = append(back, filepath.Join(mount, ownPath(string(own), filepath.Base(mount))))
	}
	err := start()
	for _, dir := range back {
		err = errors.Join(err, join(dir))
	}
	return err
}

// ownPath is the path of a controller's line in /proc/self/cgroup.
func ownPath(text, controller string) string {
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && slices.Contains(strings.Split(f[1], ","), controller) {
			return f[2]
		}
	}
	return "/"
}

// join moves this process into a cgroup.
func join(dir string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644)
}

// remove takes the cgroups away. The kernel lets go of them a little after
// their last process.
func (g *groups) remove() {
	dirs := slices.Clone(g.olds)
	if g.unified != nil {
		dirs = append(dirs, g.unified.Name())
		_ = g.unified.Close()
	}
	for range 100 {
		dirs = slices.DeleteFunc(dirs, removeGroup)
		if len(dirs) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// removeGroup removes a cgroup with all below it, and reports whether it is
// gone. Only empty ones can be removed.
func removeGroup(dir string) bool {
	var all []string
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			all = append(all, path)
		}
		return nil
	})
	slices.Reverse(all)
	for _, d := range all {
		_ = os.Remove(d)
	}
	_, err := os.Stat(dir)
	return errors.Is(err, fs.ErrNotExist)
}

// sweep removes what sandboxes left whose keeper was killed.
func sweep(mount string) {
	left, _ := filepath.Glob(filepath.Join(mount, groupPrefix+"*"))
	for _, dir := range left {
		pid := strings.TrimPrefix(filepath.Base(dir), groupPrefix)
		if _, err := os.Stat(filepath.Join("/proc", pid)); errors.Is(err, fs.ErrNotExist) {
			removeGroup(dir)
		}
	}
}

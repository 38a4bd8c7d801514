//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// Bare is a container without a Proxmox: what is to be done before a start is
// done already, and lxc-start is all that remains. It is what a start by way of
// Proxmox is measured against.
type Bare struct {
	id   string
	home string
	cmd  *exec.Cmd
}

// NewBare prepares a container that does not run. Its /run is a folder that
// Run names, in memory.
func NewBare(l pve.Launch) (*Bare, error) {
	m, id := new(Machine), strconv.Itoa(l.VMID)
	b := &Bare{id: id, home: filepath.Join(lxcDir, id)}
	root := dir(l.Volumes["rootfs"])
	if err := m.dress(l, root); err != nil {
		return nil, fmt.Errorf("set up container %s: %w", id, err)
	}
	if err := os.MkdirAll(b.Run(), 0o755); err != nil {
		return nil, err
	}
	// What an init in a user namespace finds mounted on its /run, it keeps.
	l.Raw = append(l.Raw, [2]string{"lxc.mount.entry", b.Run() + " run none bind,create=dir 0 0"})
	if err := m.configure(l, root, filepath.Join(b.home, "init")); err != nil {
		return nil, fmt.Errorf("configure container %s: %w", id, err)
	}
	return b, b.Own("")
}

// Run is the folder that is the container's /run.
func (b *Bare) Run() string { return filepath.Join(b.home, "run") }

// Own gives a path in /run to the container's root.
func (b *Bare) Own(name string) error {
	return os.Chown(filepath.Join(b.Run(), name), firstID, firstID)
}

// Start starts it.
func (b *Bare) Start() (err error) {
	b.cmd, err = lxcStart(b.id)
	return err
}

// Wait waits until nothing of it runs any more.
func (b *Bare) Wait() error {
	err := b.cmd.Wait()
	cleanGroups(b.id)
	if exit, failed := errors.AsType[*exec.ExitError](err); failed {
		return fmt.Errorf("container %s: %w: %s", b.id, exit, lastLines(filepath.Join(logDir, b.id+".log"), 4))
	}
	return err
}

// Kill ends it at once, as "lxc-stop --kill" does.
func (b *Bare) Kill() error {
	if err := run("lxc-stop", "-n", b.id, "--kill"); err != nil {
		return err
	}
	_ = b.cmd.Wait() // it was killed
	cleanGroups(b.id)
	return nil
}

// Group is the folder of a running container's cgroup that counts what a
// controller bounds, in whichever version of cgroups has it here.
func Group(vmid int, controller string) string {
	id := strconv.Itoa(vmid)
	if old := filepath.Join(oldDir, controller, id); exists(old) {
		return old
	}
	return filepath.Join(groupDir, "lxc", id)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

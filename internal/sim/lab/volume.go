//go:build linux

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// dir is where a volume is. Every storage's volumes are subvolumes of the
// sandbox's disk, unless a file system of another kind is mounted for it.
func dir(v pve.Volume) string {
	return filepath.Join("/mnt", v.Storage, strings.TrimSuffix(v.Name, ".raw"))
}

// Rootfs is where the root file system of a container is, by the option rootfs
// of its configuration.
func Rootfs(option string) string {
	volume, _, _ := strings.Cut(option, ",")
	storage, name, _ := strings.Cut(volume, ":")
	return dir(pve.Volume{Storage: storage, Name: filepath.Base(name)})
}

// storageDir makes sure that a storage has a place.
func storageDir(storage string) error {
	path := filepath.Join("/mnt", storage)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(diskDir, storage), 0o755); err != nil {
		return err
	}
	return os.Symlink(filepath.Join(diskDir, storage), path)
}

// Make implements pve.Machine.
func (m *Machine) Make(v pve.Volume) error {
	if err := storageDir(v.Storage); err != nil {
		return err
	}
	path := dir(v)
	if !onDisk(path) {
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		return os.Chown(path, firstID, firstID)
	}
	if err := makeSubvolume(path); err != nil {
		return err
	}
	if err := limit(path, v.Size); err != nil {
		return err
	}
	return os.Chown(path, firstID, firstID)
}

// onDisk reports whether a volume is a subvolume of the sandbox's disk.
func onDisk(path string) bool {
	real, err := filepath.EvalSymlinks(filepath.Dir(path))
	return err == nil && (real == diskDir || strings.HasPrefix(real, diskDir+"/"))
}

// Unpack implements pve.Machine. An archive is unpacked once; what was made of
// it is cloned.
func (m *Machine) Unpack(v pve.Volume, archive string) error {
	to := dir(v)
	if !onDisk(to) {
		return unpack(archive, to)
	}
	m.unpacking.Lock()
	defer m.unpacking.Unlock()
	kept := filepath.Join(diskDir, ".unpacked-"+filepath.Base(archive))
	if _, err := os.Stat(kept); err != nil {
		if err := makeSubvolume(kept); err != nil {
			return err
		}
		if err := os.Chown(kept, firstID, firstID); err != nil {
			return err
		}
		if err := unpack(archive, kept); err != nil {
			_ = deleteSubvolume(kept)
			return err
		}
	}
	if err := deleteSubvolume(to); err != nil {
		return err
	}
	if err := snapshot(kept, to); err != nil {
		return err
	}
	return limit(to, v.Size)
}

// unpack extracts an archive as root of a container. Its device nodes cannot
// be made there; LXC makes those that are needed.
func unpack(archive, to string) error {
	f, err := os.Open(archive) // may be where a container's root sees nothing
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command("lxc-usernsexec", "-m", idMap("b"), "--", "tar", "--numeric-owner", "-C", to, "-xpf", "-", "--exclude=./dev/*")
	cmd.Stdin = f
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("extract %s: %w: %s", archive, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Link implements pve.Machine.
func (m *Machine) Link(base, v pve.Volume) error {
	if err := storageDir(v.Storage); err != nil {
		return err
	}
	if !onDisk(dir(v)) {
		return copyTree(dir(base), dir(v))
	}
	if err := snapshot(dir(base), dir(v)); err != nil {
		return err
	}
	return limit(dir(v), v.Size)
}

// Copy implements pve.Machine: a volume that is there already is empty.
func (m *Machine) Copy(from, v pve.Volume) error {
	if onDisk(dir(from)) && onDisk(dir(v)) {
		if err := m.Remove(v); err != nil {
			return err
		}
		return m.Link(from, v)
	}
	if err := os.Remove(dir(v)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return copyTree(dir(from), dir(v))
}

func copyTree(from, to string) error { return run("cp", "-a", "--reflink=auto", from, to) }

// Rename implements pve.Machine.
func (m *Machine) Rename(from, to pve.Volume) error {
	if dir(from) == dir(to) {
		return nil
	}
	return os.Rename(dir(from), dir(to))
}

// Remove implements pve.Machine. A volume that is not there is gone.
func (m *Machine) Remove(v pve.Volume) error {
	path := dir(v)
	if _, err := os.Lstat(path); os.IsNotExist(err) {
		return nil
	}
	if !onDisk(path) {
		return run("rm", "-rf", "--one-file-system", path)
	}
	// Docker makes subvolumes inside: only an empty one can be deleted.
	kept := deleteSubvolume(path)
	if kept == nil {
		return nil
	}
	if err := run("rm", "-rf", "--one-file-system", path); err != nil {
		return fmt.Errorf("remove volume %s: %w; %w", v.Name, kept, err)
	}
	return nil
}

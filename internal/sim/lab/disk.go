//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// diskSize is what the sandbox's disk can hold at most; the file is sparse.
const diskSize = 64 << 30

// makeDisk makes a file without a name: it is gone with its last user.
func makeDisk() (*os.File, error) {
	dir, err := CacheDir()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make disk in %s: %w", dir, err)
	}
	f := os.NewFile(uintptr(fd), "disk")
	return f, f.Truncate(diskSize)
}

// CacheDir is where root file systems are kept between runs: DAYFLY_LAB_CACHE,
// or dayfly's folder in the user's cache.
func CacheDir() (string, error) {
	dir := os.Getenv("DAYFLY_LAB_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the lab's cache: %w", err)
		}
		dir = filepath.Join(base, "dayfly", "lab")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// mountDisk puts a btrfs on the disk: its snapshots are the cheapest clones.
// Nobody needs it after the sandbox, so nothing is made durable.
func mountDisk() error {
	disk := os.NewFile(diskFile, "disk")
	defer disk.Close()
	loop, err := attach(disk)
	if err != nil {
		return err
	}
	defer loop.Close() // the mount keeps the device, and gives it back
	if err := run("mkfs.btrfs", "--quiet", "--nodiscard", loop.Name()); err != nil {
		return err
	}
	if err := unix.Mount(loop.Name(), diskDir, "btrfs", unix.MS_NOATIME, "nobarrier,commit=300"); err != nil {
		return fmt.Errorf("mount disk: %w", err)
	}
	return os.Chmod(diskDir, 0o755)
}

// attach makes a loop device of a file. It detaches itself after its last use.
func attach(file *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range 50 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find loop device: %w", err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}})
		if err == nil {
			return loop, nil
		}
		_ = loop.Close()
		if !errors.Is(err, unix.EBUSY) { // somebody was faster
			return nil, fmt.Errorf("set up loop device: %w", err)
		}
	}
	return nil, errors.New("find loop device: all are taken")
}

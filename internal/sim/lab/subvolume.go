//go:build linux

package lab

import (
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's own calls for subvolumes of a btrfs (linux/btrfs.h). What the
// program btrfs adds is a process for each, and an older one knows nothing of
// quotas that cost little.
const (
	subvolumeCreate = 1<<30 | 4096<<16 | 0x94<<8 | 14 // BTRFS_IOC_SUBVOL_CREATE
	subvolumeDelete = 1<<30 | 4096<<16 | 0x94<<8 | 15 // BTRFS_IOC_SNAP_DESTROY
	snapshotCreate  = 1<<30 | 4096<<16 | 0x94<<8 | 1  // BTRFS_IOC_SNAP_CREATE
	quotaControl    = 3<<30 | 16<<16 | 0x94<<8 | 40   // BTRFS_IOC_QUOTA_CTL
	quotaLimit      = 2<<30 | 48<<16 | 0x94<<8 | 43   // BTRFS_IOC_QGROUP_LIMIT

	quotaEnable       = 1 // BTRFS_QUOTA_CTL_ENABLE
	quotaEnableSimple = 4 // BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA
)

// volumeArgs is struct btrfs_ioctl_vol_args.
type volumeArgs struct {
	fd   int64
	name [4088]byte
}

// quotaArgs is struct btrfs_ioctl_quota_ctl_args.
type quotaArgs struct{ cmd, status uint64 }

// limitArgs is struct btrfs_ioctl_qgroup_limit_args: the group 0 is that of
// the subvolume which is asked.
type limitArgs struct {
	group                                             uint64
	flags, maxReferred, maxExclusive, resRef, resExcl uint64
}

// call asks the folder at path.
func call(what, path string, request uintptr, args unsafe.Pointer) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, folder.Fd(), request, uintptr(args)); errno != 0 {
		return &os.PathError{Op: what, Path: path, Err: errno}
	}
	return nil
}

// child asks the folder that path is in, by its name there.
func child(what, path string, request uintptr, fd int64) error {
	args := volumeArgs{fd: fd}
	if name := filepath.Base(path); copy(args.name[:], name) == len(args.name) {
		return &os.PathError{Op: what, Path: path, Err: unix.ENAMETOOLONG}
	}
	if err := call(what, filepath.Dir(path), request, unsafe.Pointer(&args)); err != nil {
		err.(*os.PathError).Path = path
		return err
	}
	return nil
}

// makeSubvolume makes an empty one.
func makeSubvolume(path string) error { return child("make subvolume", path, subvolumeCreate, 0) }

// deleteSubvolume deletes one that has no others inside.
func deleteSubvolume(path string) error { return child("delete subvolume", path, subvolumeDelete, 0) }

// snapshot makes a writable snapshot.
func snapshot(of, path string) error {
	from, err := os.Open(of)
	if err != nil {
		return err
	}
	defer from.Close()
	return child("make snapshot", path, snapshotCreate, int64(from.Fd()))
}

// limit bounds what a subvolume adds to what it was cloned from, where the
// kernel can.
func limit(path string, size int64) error {
	if size == 0 || !quotas() {
		return nil
	}
	args := limitArgs{flags: 1, maxReferred: uint64(size)} // BTRFS_QGROUP_LIMIT_MAX_RFER
	return call("limit subvolume", path, quotaLimit, unsafe.Pointer(&args))
}

// quotas reports whether the disk counts what subvolumes use: in the way that
// asks only who wrote an extent first, or in the one that every kernel has and
// that looks for all who share it.
var quotas = sync.OnceValue(func() bool {
	for _, cmd := range []uint64{quotaEnableSimple, quotaEnable} {
		if call("enable quotas", diskDir, quotaControl, unsafe.Pointer(&quotaArgs{cmd: cmd})) == nil {
			return true
		}
	}
	return false
})

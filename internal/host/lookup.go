//go:build linux

package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// How a path in a container is resolved. No link is followed, and nothing is
// entered that is mounted over what was there when the container started. That
// also keeps out what a job may mount to hang who looks: FUSE refuses processes
// outside of its user namespace (fuse_allow_current_process, fs/fuse/dir.c),
// but an overlay on it would ask in the name of who mounted it.
const (
	staying  = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV
	crossing = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
)

// fileSystems are those whose files are read: what containers are made on, and
// memory. On others, a read may have effects or never end (procfs).
var fileSystems = []int64{
	unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, 0x2fc12fc1, // ZFS
	unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.BCACHEFS_SUPER_MAGIC,
}

func openAt(dir *os.File, path string, flags uint64, resolve uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: resolve}
	if flags&unix.O_CREAT != 0 {
		how.Mode = 0o600
	}
	var fd int
	err := unix.EAGAIN
	for try := 0; try < 16 && (err == unix.EAGAIN || err == unix.EINTR); try++ { // a rename may race
		var e error
		if fd, e = unix.Openat2(int(dir.Fd()), path, &how); e == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		err, _ = e.(unix.Errno)
	}
	return nil, &os.PathError{Op: "open", Path: path, Err: err}
}

// fsType is the magic number of the file system that f is on.
func fsType(f *os.File) int64 {
	var st unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &st) != nil {
		return 0
	}
	return int64(st.Type)
}

func sameDevice(a, b *os.File) bool {
	var x, y unix.Stat_t
	return unix.Fstat(int(a.Fd()), &x) == nil && unix.Fstat(int(b.Fd()), &y) == nil && x.Dev == y.Dev
}

var errNotRegular = errors.New("not a regular file")

// tail reads the last n bytes of a regular file. It is opened by its path only
// as a name, then looked at, and the very same file is opened to be read: a
// pipe or a device never is.
func tail(dir *os.File, path string, n int64) (data []byte, size int64, err error) {
	name, err := openAt(dir, path, unix.O_PATH, staying)
	if err != nil {
		return nil, 0, err
	}
	defer name.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(name.Fd()), &st); err != nil {
		return nil, 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || !slices.Contains(fileSystems, fsType(name)) {
		return nil, 0, errNotRegular
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(int(name.Fd())), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	data = make([]byte, min(n, st.Size))
	got, err := f.ReadAt(data, st.Size-int64(len(data)))
	if err != nil && !errors.Is(err, io.EOF) { // it has shrunk
		return nil, 0, err
	}
	return data[:got], st.Size, nil
}

// exists reports whether a path is there, as whatever.
func exists(dir *os.File, path string) bool {
	f, err := openAt(dir, path, unix.O_PATH, staying)
	if err != nil {
		return errors.Is(err, unix.ELOOP) // a link: something is there
	}
	_ = f.Close()
	return true
}

// entries lists names in a directory, at most n.
func entries(dir *os.File, path string, n int) ([]string, error) {
	f, err := openAt(dir, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, staying)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(n)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err == nil && len(names) == n {
		err = fmt.Errorf("more than %d entries", n)
	}
	slices.Sort(names)
	return names, err
}

// usage fills in what is used and free on the root file system.
func (g *grip) usage(s *Stats) {
	var st unix.Statfs_t
	if unix.Fstatfs(int(g.root.Fd()), &st) != nil {
		return
	}
	block := int64(st.Frsize)
	s.Disk, s.DiskFree, s.InodesFree = int64(st.Blocks-st.Bfree)*block, int64(st.Bavail)*block, int64(st.Ffree)
	const little = 1 << 20
	s.DiskFull = s.DiskFree < little || st.Files > 0 && st.Ffree == 0
}

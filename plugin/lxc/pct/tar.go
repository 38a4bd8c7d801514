package pct

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// octal is a mode as chmod takes it, with the bits above the permissions.
func octal(m os.FileMode) string {
	bits := m.Perm()
	for _, b := range []struct{ is, means os.FileMode }{{os.ModeSetuid, 0o4000}, {os.ModeSetgid, 0o2000}, {os.ModeSticky, 0o1000}} {
		if m&b.is != 0 {
			bits |= b.means
		}
	}
	return fmt.Sprintf("%04o", bits)
}

// packOne writes a tar stream with one file. Of a source whose size is not
// known, it is found out by reading it.
func packOne(w io.Writer, src io.Reader, size int64) error {
	if size < 0 {
		whole, n, err := spool(src)
		if err != nil {
			return err
		}
		defer whole.Close()
		src, size = whole, n
	}
	t := tar.NewWriter(w)
	if err := t.WriteHeader(&tar.Header{Name: "file", Mode: 0o600, Size: size}); err != nil {
		return err
	}
	// Reads no more than that: a file that grows meanwhile is cut, one that
	// shrinks is an error.
	if _, err := io.CopyN(t, src, size); err != nil {
		return err
	}
	return t.Close()
}

// spool keeps a source in a file without a name.
func spool(src io.Reader) (io.ReadCloser, int64, error) {
	f, err := os.CreateTemp("", "packer-dayfly-")
	if err != nil {
		return nil, 0, err
	}
	_ = os.Remove(f.Name())
	n, err := io.Copy(f, src)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, n, nil
}

// pack writes a tar stream of what is below dir, under prefix. Owners are
// root's: those of this machine mean nothing in the container.
func pack(w io.Writer, dir, prefix string, exclude []string) error {
	t := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		switch {
		case name == "." && prefix == "":
			return nil
		case excluded(name, exclude) && entry.IsDir():
			return fs.SkipDir
		case excluded(name, exclude):
			return nil
		}
		return packEntry(t, file, path.Join(prefix, name))
	})
	if err != nil {
		return err
	}
	return t.Close()
}

func packEntry(t *tar.Writer, file, name string) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	target := ""
	switch {
	case info.Mode()&os.ModeSymlink != 0:
		if target, err = os.Readlink(file); err != nil {
			return err
		}
	case !info.IsDir() && !info.Mode().IsRegular():
		return fmt.Errorf("%s is neither a file nor a directory nor a link", file)
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = name, 0, 0, "root", "root"
	if info.IsDir() {
		h.Name += "/"
	}
	if err := t.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(t, f, h.Size)
	return err
}

// excluded reports whether a pattern matches the path or its last element.
func excluded(name string, patterns []string) bool {
	for _, p := range patterns {
		p = strings.Trim(filepath.ToSlash(p), "/")
		whole, err1 := path.Match(p, name)
		last, err2 := path.Match(p, path.Base(name))
		if err1 == nil && whole || err2 == nil && last {
			return true
		}
	}
	return false
}

// unpack writes what a tar stream holds below dir. The stream comes from the
// container, which is not trusted: nothing leaves dir, by a name or by a link.
func unpack(r io.Reader, dir string, exclude []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			_, err = io.Copy(io.Discard, r) // or the sender's end breaks
			return err
		case err != nil:
			return err
		}
		name := path.Clean(h.Name)
		if name == "." || excluded(name, exclude) {
			continue
		}
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return fmt.Errorf("the container sent %q, which is outside of the directory", h.Name)
		}
		if err := unpackEntry(root, t, h, name); err != nil {
			return err
		}
	}
}

func unpackEntry(root *os.Root, r io.Reader, h *tar.Header, name string) error {
	if d := path.Dir(name); d != "." {
		if err := root.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	mode := h.FileInfo().Mode().Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, mode|0o700)
	case tar.TypeSymlink:
		_ = root.Remove(name)
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		_ = root.Remove(name)
		return root.Link(path.Clean(h.Linkname), name)
	case tar.TypeReg:
	default:
		return nil // a device or socket: nothing to copy
	}
	_ = root.Remove(name) // or a link would be followed, inside of the directory
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

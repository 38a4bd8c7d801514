//go:build linux

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Places in the sandbox.
const (
	runDir   = "/run/dayfly-lab"
	tmpDir   = runDir + "/tmp"
	logDir   = runDir + "/log"
	devDir   = runDir + "/dev"    // nodes that containers get
	oldDir   = runDir + "/cgroup" // hierarchies of cgroup v1
	groupDir = "/sys/fs/cgroup"
	lxcDir   = "/var/lib/lxc"
	diskDir  = "/mnt/disk" // the sandbox's disk
	pveDir   = "/etc/pve"
)

// Host is the sandbox's host name, and so the name of its node.
const Host = "pve"

// setUp makes the sandbox of fresh namespaces.
func setUp() error {
	for _, step := range []func() error{mounts, nodes, etc, ownGroup, oldGroups, mountDisk, network, openLine} {
		if err := step(); err != nil {
			return err
		}
	}
	return unix.Sethostname([]byte(Host))
}

// mounts hides what is the machine's. A bind mount of the root on itself would
// keep user namespaces from being made: it looks like a chroot.
func mounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, m := range []struct{ kind, at, options string }{
		{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"cgroup2", groupDir, ""},
		{"tmpfs", "/run", "mode=755"}, {"tmpfs", lxcDir, "mode=755"}, {"tmpfs", "/mnt", "mode=755"},
	} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, m.options); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.at, err)
		}
	}
	for _, dir := range []string{runDir, tmpDir, logDir, devDir, oldDir, "/run/lxc", "/run/lock", diskDir, runDir + "/etc/upper", runDir + "/etc/work"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return os.Chmod(tmpDir, 0o1777)
}

// nodes makes the device nodes that a feature of a container gives it. The
// machine's own may be closed to everybody but root; on a Proxmox they are not.
func nodes() error {
	for name, minor := range map[string]uint32{"fuse": 229, "net/tun": 200} {
		path := filepath.Join(devDir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(10, minor))); err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
		if err := os.Chmod(path, 0o666); err != nil { // mknod knows a umask
			return err
		}
	}
	return nil
}

// etc covers /etc with what a Proxmox node has there. With uidmap installed,
// LXC insists on an entry in subuid.
func etc() error {
	options := "lowerdir=/etc,upperdir=" + runDir + "/etc/upper,workdir=" + runDir + "/etc/work"
	if err := unix.Mount("overlay", "/etc", "overlay", 0, options); err != nil {
		return fmt.Errorf("cover /etc: %w", err)
	}
	for name, text := range map[string]string{
		"subuid": "root:100000:65536\n", "subgid": "root:100000:65536\n", "hostname": Host + "\n",
		"hosts": "127.0.0.1 localhost\n" + managementAddress + " " + Host + "\n",
	} {
		if err := os.WriteFile(filepath.Join("/etc", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, dir := range []string{"nodes/" + Host + "/lxc", "firewall", "priv"} {
		if err := os.MkdirAll(filepath.Join(pveDir, dir), 0o755); err != nil {
			return err
		}
	}
	return errors.Join(os.Symlink("nodes/"+Host, filepath.Join(pveDir, "local")),
		os.Symlink("nodes/"+Host+"/lxc", filepath.Join(pveDir, "lxc")))
}

// ownGroup leaves the root of the cgroups to containers: one with processes of
// its own cannot hand controllers down. LXC makes a container's cgroups where
// the first process is, and takes this name of systemd's for the root
// (cgroups/cgroup_utils.c, prune_init_scope).
func ownGroup() error {
	own := filepath.Join(groupDir, "init.scope")
	if err := os.Mkdir(own, 0o755); err != nil {
		return err
	}
	if err := join(own); err != nil {
		return err
	}
	for _, dir := range []string{groupDir, filepath.Join(groupDir, "lxc")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		there, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		for _, c := range append([]string{"cpu"}, controllers...) {
			if strings.Contains(" "+strings.TrimSpace(string(there))+" ", " "+c+" ") {
				if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0o644); err != nil {
					return fmt.Errorf("hand down %s: %w", c, err)
				}
			}
		}
	}
	return nil
}

// oldGroups mounts the hierarchies of cgroup v1 that bound containers where
// cgroup2 has no controllers.
func oldGroups() error {
	there, _ := os.ReadFile(filepath.Join(groupDir, "cgroup.controllers"))
	for _, c := range controllers {
		if strings.Contains(string(there), c) {
			continue
		}
		dir := filepath.Join(oldDir, c)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("cgroup", dir, "cgroup", 0, c); err != nil {
			_ = os.Remove(dir) // then nothing bounds it
		}
	}
	return nil
}

// run runs a program of the machine.
func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// openLine opens the way out: the listener is ours, and so is who may reach
// it; who accepts is the keeper, outside.
func openLine() error {
	l, err := net.Listen("tcp4", ProxyAddress)
	if err != nil {
		return err
	}
	f, err := l.(*net.TCPListener).File()
	_ = l.Close()
	if err != nil {
		return err
	}
	defer f.Close()
	line := os.NewFile(lineFile, "line")
	defer line.Close()
	return unix.Sendmsg(int(line.Fd()), []byte{0}, unix.UnixRights(int(f.Fd())), nil, 0)
}

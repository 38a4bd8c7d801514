//go:build linux

package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ArchiveDir is where base images are found in the sandbox: the folder of a
// storage with this path.
const ArchiveDir = "/mnt/archives"

// release is the Debian that base images are made of.
const release = "trixie"

// basePackages make a base image like the standard one of Proxmox's list: a
// system that boots, has a network and can install the rest.
var basePackages = []string{
	"systemd", "systemd-sysv", "dbus", "udev", "ifupdown", "isc-dhcp-client", "iproute2", "iputils-ping", "ca-certificates",
	"procps", "logrotate", "less", "apt-utils", "openssl", "netbase", "adduser", "passwd", "login", "util-linux",
}

// settings of apt in a base image, and while it is made: the way out is the
// proxy, and a mirror may be older than its own idea of time.
const aptSettings = `Acquire::http::Proxy "` + Proxy + `";
Acquire::https::Proxy "` + Proxy + `";
Acquire::Check-Valid-Until "false";
`

// ErrNoDebian says that a base image of Debian cannot be made here, and none
// was made before.
var ErrNoDebian = errors.New("lab: skipped: needs programs (apt-get install mmdebstrap)")

// Debian is the path of a base image of Debian with systemd, made once and
// kept in the cache.
func Debian() (string, error) {
	sum := sha256.Sum256([]byte(release + strings.Join(basePackages, " ") + aptSettings))
	name := release + "-" + hex.EncodeToString(sum[:6]) + ".tar"
	return Cached(name, func(to string) error {
		if _, err := exec.LookPath("mmdebstrap"); err != nil {
			return ErrNoDebian
		}
		settings := filepath.Join(runDir, "apt.conf")
		if err := os.WriteFile(settings, []byte(aptSettings), 0o644); err != nil {
			return err
		}
		return run("mmdebstrap", "--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io", "--aptopt="+settings,
			"--include="+strings.Join(basePackages, ","), "--customize-hook=rm -f $1/etc/hostname $1/etc/resolv.conf; : >$1/etc/machine-id",
			"--format=tar", release, to)
	})
}

// Busybox is the path of a base image that has nothing but busybox: it boots
// in no time.
func Busybox() (string, error) {
	return Cached("busybox-1.tar", func(to string) error {
		root, err := os.MkdirTemp("", "busybox")
		if err != nil {
			return err
		}
		defer os.RemoveAll(root)
		script := `set -e; cd "$1"; mkdir -p bin sbin etc dev proc sys run tmp root var/lib; cp "$(command -v busybox)" bin/busybox
for a in sh cat echo sleep ls mkdir mv rm ip ping nc wget ps kill id true date poweroff halt init mount umount dd head tr env hostname arping; do ln -s busybox bin/$a; done
printf '::sysinit:/bin/mkdir -p /run/dayfly\n::sysinit:/bin/busybox mount -t tmpfs tmpfs /run\n' >etc/inittab
printf 'root:x:0:0:root:/root:/bin/sh\n' >etc/passwd; ln -s ../bin/busybox sbin/init; ln -s ../bin/busybox sbin/halt
tar -cf "$2" --owner=0 --group=0 .`
		return run("/bin/sh", "-c", script, "sh", root, to)
	})
}

// Cached makes a file in the cache, unless it is there. One process makes it
// and others wait.
func Cached(name string, make func(to string) error) (string, error) {
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, os.Chtimes(path, time.Time{}, time.Now())
	}
	part := path + ".part"
	defer os.Remove(part)
	if err := make(part); err != nil {
		return "", fmt.Errorf("make %s: %w", name, err)
	}
	return path, os.Rename(part, path)
}

// Archive puts a base image where a storage with the path ArchiveDir has it,
// under a name like debian-13_amd64.tar.
func Archive(file, name string) error {
	dir := filepath.Join(ArchiveDir, "template", "cache")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := os.Symlink(file, filepath.Join(dir, name))
	if os.IsExist(err) {
		return nil
	}
	return err
}

// Export writes what is in a volume to an archive, as a base image to start
// from later.
func Export(rootfs, to string) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command("lxc-usernsexec", "-m", idMap("b"), "--", "tar", "--numeric-owner", "-C", rootfs, "-cpf", "-", "--exclude=./dev/*", ".")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = f, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("export %s: %w: %s", rootfs, err, said.String())
	}
	return nil
}

//go:build linux

package lab

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// programs are what the sandbox runs, by the Debian package that has them.
var programs = []struct{ name, from string }{
	{"lxc-start", "lxc"}, {"newuidmap", "uidmap"}, {"ip", "iproute2"}, {"nft", "nftables"}, {"dnsmasq", "dnsmasq-base"},
	{"mkfs.btrfs", "btrfs-progs"}, {"busybox", "busybox-static"},
}

// Missing says why there can be no sandbox here; nil means that there can be
// one. In a sandbox, it is nil.
var Missing = sync.OnceValue(missing)

func missing() error {
	if inside {
		return nil
	}
	skipped := func(why string) error { return errors.New("lab: skipped: " + why) }
	if os.Geteuid() != 0 {
		return skipped("needs root (run it with sudo -E)")
	}
	var packages []string
	for _, p := range programs {
		if _, err := exec.LookPath(p.name); err != nil {
			packages = append(packages, p.from)
		}
	}
	if len(packages) > 0 {
		return skipped("needs programs (apt-get install " + strings.Join(packages, " ") + ")")
	}
	if _, err := unifiedMount(); err != nil {
		return skipped("needs a cgroup2 mount")
	}
	if denied("/proc/sys/user/max_user_namespaces", "0") || denied("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
		return skipped("needs user namespaces (/proc/sys/user/max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)")
	}
	if text, err := os.ReadFile("/proc/filesystems"); err == nil && !strings.Contains(string(text), "\tbtrfs\n") {
		return skipped("needs a kernel with btrfs")
	}
	return nil
}

func denied(file, value string) bool {
	text, err := os.ReadFile(file)
	return err == nil && strings.TrimSpace(string(text)) == value
}

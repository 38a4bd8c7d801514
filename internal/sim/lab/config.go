//go:build linux

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// config is a container's LXC configuration.
type config struct{ lines []string }

func (c *config) set(key, format string, args ...any) {
	c.lines = append(c.lines, key+" = "+fmt.Sprintf(format, args...))
}

// props reads "a,b=c" as Proxmox's property strings are; what has no key is
// found under "".
func props(s string) map[string]string {
	out := map[string]string{}
	for _, part := range strings.Split(s, ",") {
		k, v, ok := strings.Cut(part, "=")
		if !ok {
			k, v = "", part
		}
		out[k] = v
	}
	return out
}

// configure writes /var/lib/lxc/ID/config with the keys that Proxmox writes
// (PVE::LXC, update_lxc_config).
func (m *Machine) configure(l pve.Launch, rootfs, fifo string) error {
	id := strconv.Itoa(l.VMID)
	home := filepath.Join(lxcDir, id)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	c := new(config)
	c.groups(id, l)
	c.kernel(l, home)
	c.set("lxc.uts.name", "%s", l.Options["hostname"])
	c.set("lxc.rootfs.path", "dir:%s", rootfs)
	c.features(props(l.Options["features"]))
	if e := l.Options["entrypoint"]; e != "" {
		c.set("lxc.init.cmd", "%s", e)
	}
	// Before LXC 6 there is no lxc.environment.runtime.
	for _, kv := range strings.Split(l.Options["env"], "\x00") {
		if kv != "" {
			c.set("lxc.environment", "%s", kv)
		}
	}
	for _, r := range l.Raw {
		if !slices.Contains([]string{"lxc.apparmor.profile"}, r[0]) { // no AppArmor here
			c.set(r[0], "%s", r[1])
		}
	}
	hook := filepath.Join(home, "started")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho \"$LXC_PID\" >'"+fifo+"'\n"), 0o755); err != nil {
		return err
	}
	c.set("lxc.hook.start-host", "%s", hook)
	if err := c.networks(l); err != nil {
		return err
	}
	rules := "2\nblacklist\n[all]\nkexec_load errno 1\nopen_by_handle_at errno 1\ninit_module errno 1\nfinit_module errno 1\ndelete_module errno 1\n" +
		"ioctl errno 1 [1,0x9400,SCMP_CMP_MASKED_EQ,0xff00]\nsocket errno 97 [0,38,SCMP_CMP_EQ]\n"
	if props(l.Options["features"])["keyctl"] != "1" {
		rules += "keyctl errno 38\n"
	}
	if err := os.WriteFile(filepath.Join(home, "rules.seccomp"), []byte(rules), 0o644); err != nil {
		return err
	}
	text := strings.Join(c.lines, "\n") + "\n"
	return os.WriteFile(filepath.Join(home, "config"), []byte(text), 0o644)
}

func (c *config) groups(id string, l pve.Launch) {
	c.set("lxc.cgroup.relative", "0")
	c.set("lxc.cgroup.dir.monitor", "lxc.monitor/%s", id)
	c.set("lxc.cgroup.dir.container", "lxc/%s", id)
	c.set("lxc.cgroup.dir.container.inner", "ns")
	c.set("lxc.include", "/usr/share/lxc/config/common.conf")
	c.set("lxc.include", "/usr/share/lxc/config/userns.conf")
	c.set("lxc.cgroup2.devices.allow", "a")
	memory := atoi(l.Options["memory"], 512) << 20
	for name, value := range map[string]int{"memory.max": memory, "pids.max": maxPids} {
		controller, _, _ := strings.Cut(name, ".")
		if _, err := os.Stat(filepath.Join(groupDir, "lxc", controller+".max")); err == nil {
			c.set("lxc.cgroup2."+name, "%d", value)
		}
		old := filepath.Join(oldDir, controller)
		if _, err := os.Stat(old); err != nil || os.MkdirAll(filepath.Join(old, id), 0o755) != nil {
			continue
		}
		if controller == "memory" {
			name = "memory.limit_in_bytes"
		}
		_ = os.WriteFile(filepath.Join(old, id, name), []byte(strconv.Itoa(value)), 0o644)
	}
}

// maxPids bounds a container's processes. Proxmox itself sets no bound; this
// one is for the machine that runs the tests.
const maxPids = 4096

func (c *config) kernel(l pve.Launch, home string) {
	c.set("lxc.seccomp.profile", "%s", filepath.Join(home, "rules.seccomp"))
	c.set("lxc.mount.auto", "sys:mixed")
	c.set("lxc.monitor.unshare", "1")
	if l.Options["unprivileged"] == "1" {
		c.set("lxc.idmap", "u 0 %d %d", firstID, idCount)
		c.set("lxc.idmap", "g 0 %d %d", firstID, idCount)
	}
	c.set("lxc.tty.max", "%d", atoi(l.Options["tty"], 2))
	c.set("lxc.environment", "TERM=linux")
	c.set("lxc.signal.halt", "SIGRTMIN+3")
}

// features are what Proxmox lets a container do (make_features).
func (c *config) features(f map[string]string) {
	if f["nesting"] == "1" {
		c.set("lxc.mount.entry", "proc dev/.lxc/proc proc create=dir,optional 0 0")
		c.set("lxc.mount.entry", "sys dev/.lxc/sys sysfs create=dir,optional 0 0")
	}
	if f["fuse"] == "1" {
		c.set("lxc.mount.entry", "%s dev/fuse none bind,create=file 0 0", filepath.Join(devDir, "fuse"))
	}
}

// networks attaches net0, net1, ... to their bridges. Addresses are set inside
// (PVE::LXC::Setup), unless the host is to do it.
func (c *config) networks(l pve.Launch) error {
	var keys []string
	for k := range l.Options {
		if strings.HasPrefix(k, "net") && atoi(k[3:], -1) >= 0 {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	for _, k := range keys {
		n, net := k[3:], props(l.Options[k])
		bridge, err := bridgeOf(net["bridge"], net["tag"])
		if err != nil {
			return err
		}
		port := "veth" + strconv.Itoa(l.VMID) + "i" + n
		c.set("lxc.net."+n+".type", "veth")
		c.set("lxc.net."+n+".link", "%s", bridge)
		c.set("lxc.net."+n+".veth.pair", "%s", port)
		c.set("lxc.net."+n+".name", "%s", net["name"])
		c.set("lxc.net."+n+".hwaddr", "%s", net["hwaddr"])
		if net["link_down"] != "1" {
			c.set("lxc.net."+n+".flags", "up")
		}
		if net["host-managed"] == "1" && strings.Contains(net["ip"], "/") {
			c.set("lxc.net."+n+".ipv4.address", "%s", net["ip"])
			if net["gw"] != "" {
				c.set("lxc.net."+n+".ipv4.gateway", "%s", net["gw"])
			}
		}
	}
	return nil
}

func atoi(s string, otherwise int) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return otherwise
	}
	return n
}

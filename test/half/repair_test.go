package half

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/host"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
)

// Places in the sandbox of what stands in for a node's tools.
const (
	pctCalls  = "/run/dayfly-test/calls"
	pctRefuse = "/run/dayfly-test/refuse"
	realRun   = "/run/dayfly-test/systemd-run"
)

// standInPCT does to the configuration of a container what pct(1) does, and
// what only a process without the root half's confinement can: it writes to
// /etc/pve and to the node's locks, and mounts something.
const standInPCT = `#!/bin/sh
set -e
if [ -e ` + pctRefuse + ` ]; then
	echo "CT is locked (mounted)" >&2
	exit 5
fi
mkdir -p /run/lock/lxc
: >"/run/lock/lxc/pve-config-$2.lock"
mkdir -p /run/dayfly-test/mnt
mount -t tmpfs tmpfs /run/dayfly-test/mnt
umount /run/dayfly-test/mnt
file=/etc/pve/lxc/$2.conf
case $1 in
unlock) sed -i '/^lock:/d' "$file" ;;
destroy) rm "$file" ;;
esac
printf '%s\n' "$* as $(id -u) with $(grep -c '^NoNewPrivs:.0$' /proc/self/status)" >>` + pctCalls + `
`

// inUserManager has the root half's systemd-run talk to the only systemd that
// there is, which is root's own. It runs confined as the root half does: could
// it write where pct(1) does, pct would show nothing.
const inUserManager = `#!/bin/sh
if touch /etc/pve/lxc/confined 2>/dev/null; then
	echo "the root half itself can write to /etc/pve" >&2
	exit 97
fi
export XDG_RUNTIME_DIR=` + managerDir + `
exec ` + realRun + ` --user "$@"
`

// busConfig and the units are those of a bus as systemd-run needs one.
const (
	busConfig = `<busconfig><type>session</type><listen>systemd:</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
`
	busSocket  = "[Socket]\nListenStream=" + managerDir + "/bus\n"
	busService = "[Unit]\nRequires=dbus.socket\n[Service]\nType=notify\nNotifyAccess=main\n" +
		"ExecStart=/usr/bin/dbus-daemon --config-file=/etc/dayfly-test-bus.conf --nofork --nopidfile --systemd-activation\n"
)

// tools puts the stand-ins into the sandbox, in the places of a node's own.
func (n *node) tools() {
	n.t.Helper()
	n.write(realRun, n.read("/usr/bin/systemd-run"), 0o755)
	n.write("/run/dayfly-test/run-wrapped", inUserManager, 0o755)
	n.mount("/run/dayfly-test/run-wrapped", "/usr/bin/systemd-run", "", unix.MS_BIND, "")
	const upper, work = "/run/dayfly-test/sbin", "/run/dayfly-test/sbin-work"
	n.write(upper+"/pct", standInPCT, 0o755)
	n.must(os.MkdirAll(work, 0o755))
	n.mount("overlay", "/usr/sbin", "overlay", 0, "lowerdir=/usr/sbin,upperdir="+upper+",workdir="+work)
	n.write("/etc/dayfly-test-bus.conf", busConfig, 0o644)
	n.write("/etc/systemd/user/dbus.socket", busSocket, 0o644)
	n.write("/etc/systemd/user/dbus.service", busService, 0o644)
}

// mount mounts something in the sandbox until the test ends.
func (n *node) mount(source, at, kind string, flags uintptr, options string) {
	n.t.Helper()
	if err := unix.Mount(source, at, kind, flags, options); err != nil {
		n.t.Fatalf("mount %s on %s: %v", source, at, err)
	}
	n.t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			n.t.Errorf("umount %s: %v", at, err)
		}
	})
}

// TestRootHalfRepairsConfinedAsItsUnitSays has what a cut-off task left removed
// by a root half that may write nothing itself: the node's tool runs as a unit
// of its own, free of what confines the root half.
func TestRootHalfRepairsConfinedAsItsUnitSays(t *testing.T) {
	n := newContainer(t, openNet)
	n.install()
	n.tools()
	s := startSystemd(t)
	n.must(s.control("start", "dbus.socket", "dbus.service"))
	n.must(s.control("start", "dayfly-host.socket"))
	n.client = host.Local("/run/dayfly-host.sock")
	file := fmt.Sprintf("nodes/%s/lxc/%d.conf", lab.Host, vmid)
	n.machine.Publish(file, n.read("/etc/pve/"+file)+"lock: disk\n")

	n.write(pctRefuse, "", 0o600)
	if err := n.client.Repair(t.Context(), vmid, name, host.Remove); err == nil || !strings.Contains(err.Error(), "pct unlock 20001: exit status 5: CT is locked (mounted)") {
		t.Fatalf("a tool that refuses: %v\n%s%s", err, s.said("status", "dayfly-host.service"), n.read(unitLog))
	}
	n.must(os.Remove(pctRefuse))
	if err := n.client.Repair(t.Context(), vmid, "another", host.Remove); !errors.Is(err, fleet.ErrDenied) {
		t.Errorf("another runner's: %v", err)
	}
	if err := n.client.Repair(t.Context(), vmid, name, host.Remove); err != nil {
		t.Fatalf("%v\n%s%s", err, s.said("status", "dayfly-host.service"), n.read(unitLog))
	}
	if got, want := n.read(pctCalls), "unlock 20001 as 0 with 1\ndestroy 20001 as 0 with 1\n"; got != want {
		t.Errorf("pct was called\n%swant\n%s", got, want)
	}
	if _, err := os.Stat("/etc/pve/" + file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the configuration is still there: %v", err)
	}
}

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// dressing is run as root of the container in its root file system, which is
// as hostile as what ran in it: a link leads nowhere but inside.
const dressing = `set -e
cd "$1"
put() { rm -rf "./$1.dress"; cat >"./$1.dress"; chmod 644 "./$1.dress"; mv -fT "./$1.dress" "./$1"; }
[ -d ./etc ] && [ ! -L ./etc ] || exit 0
printf '%s\n' "$2" | put etc/hostname
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 %s\n' "$2" | put etc/hosts
printf '# --- BEGIN PVE ---\nnameserver %s\n# --- END PVE ---\n' "$3" | put etc/resolv.conf
if [ -d ./etc/network ] && [ ! -L ./etc/network ]; then printf '%s' "$4" | put etc/network/interfaces; fi
`

// dress writes into the container what Proxmox writes there before every start
// (PVE::LXC::Setup::Debian, pre_start_hook): host name, resolver, network.
func (m *Machine) dress(l pve.Launch, rootfs string) error {
	server := l.Options["nameserver"]
	if server == "" {
		server = Gateway
	}
	args := []string{"/bin/sh", "-c", dressing, "sh", rootfs, l.Options["hostname"], server, interfaces(l)}
	name, before := "lxc-usernsexec", []string{"-m", idMap("b"), "--"}
	if l.Options["unprivileged"] != "1" {
		name, before = args[0], nil
		args = args[1:]
	}
	cmd := exec.Command(name, append(before, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// interfaces is /etc/network/interfaces as Proxmox writes it.
func interfaces(l pve.Launch) string {
	var b strings.Builder
	b.WriteString("auto lo\niface lo inet loopback\n")
	for i := range 8 {
		s := l.Options[fmt.Sprintf("net%d", i)]
		if s == "" {
			continue
		}
		net := props(s)
		name := net["name"]
		fmt.Fprintf(&b, "\nauto %s\n", name)
		switch ip := net["ip"]; {
		case ip == "dhcp":
			fmt.Fprintf(&b, "iface %s inet dhcp\n", name)
		case strings.Contains(ip, "/"):
			fmt.Fprintf(&b, "iface %s inet static\n\taddress %s\n", name, ip)
			if net["gw"] != "" {
				fmt.Fprintf(&b, "\tgateway %s\n", net["gw"])
			}
		default:
			fmt.Fprintf(&b, "iface %s inet manual\n", name)
		}
		if net["ip6"] == "auto" || net["ip6"] == "dhcp" {
			fmt.Fprintf(&b, "iface %s inet6 %s\n", name, net["ip6"])
		}
	}
	return b.String()
}

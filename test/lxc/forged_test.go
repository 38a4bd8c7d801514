package lxc

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/test/lxc/node"
)

// frames are what has come from containers to the node's own place on a bridge,
// by who they claim to be from: what a packet filter drops is not among them.
type frames struct {
	mu   sync.Mutex
	seen map[string]bool
}

// listenTo keeps the frames that come to a bridge until the test ends.
func listenTo(t testing.TB, bridge string) *frames {
	t.Helper()
	dev, err := net.InterfaceByName(bridge)
	if err != nil {
		t.Fatal(err)
	}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index})
	}
	if err != nil {
		t.Fatalf("listen to %s: %v", bridge, err)
	}
	socket := os.NewFile(uintptr(fd), bridge)
	t.Cleanup(func() { _ = socket.Close() })
	f := &frames{seen: map[string]bool{}}
	go func() {
		for frame := make([]byte, 2048); ; {
			n, err := socket.Read(frame)
			if err != nil {
				return
			}
			f.take(frame[:n])
		}
	}()
	return f
}

// take notes the hardware address a frame comes from, with what it says inside.
func (f *frames) take(frame []byte) {
	if len(frame) < 42 {
		return
	}
	from := net.HardwareAddr(frame[6:12]).String()
	address := func(at int) netip.Addr { return netip.AddrFrom4([4]byte(frame[at : at+4])) }
	var claims []string
	switch binary.BigEndian.Uint16(frame[12:14]) {
	case unix.ETH_P_IP:
		claims = []string{fmt.Sprint("IPv4 ", address(26)), fmt.Sprintf("%d bytes of %s", binary.BigEndian.Uint16(frame[16:18]), address(26))}
	case unix.ETH_P_ARP:
		claims = []string{fmt.Sprint("ARP ", address(28))}
	case unix.ETH_P_IPV6:
		claims = []string{"IPv6"}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range claims {
		f.seen[from+" "+c] = true
	}
}

func (f *frames) has(claim string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[claim]
}

func (f *frames) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(f.seen)), "\n")
}

// forgedAddress is whom containers pretend to be: nobody has it.
const forgedAddress = "10.77.0.15"

// forge is what a container's root sends in others' names, a few times each: a
// link that has just come up loses some. Packets to a multicast address need no
// answer of anybody.
const forge = `ip address add OWN/24 dev eth0 2>/dev/null
hello() { ip route add 224.0.0.0/4 dev eth0 2>/dev/null; ping -c 1 -W 1 -I "$1" 224.0.0.1; }
claim() { for i in 1 2 3; do hello "$1" & arping -U -c 1 -w 1 -I eth0 -s "$1" "$1"; wait; done; }
turn() { ip link set eth0 down; ip link set eth0 address "$1"; ip link set eth0 up; }
own=$(cat /sys/class/net/eth0/address)
ip -6 address add fe80::99/64 dev eth0
ip address add FORGED/32 dev eth0
claim FORGED
ip address del FORGED/32 dev eth0
turn HARDWARE
claim OWN
turn $own
/bin/busybox httpd -p 7 -h /tmp
echo $own`

// honest is what it sends after that, in its own name, of a size that nothing
// else has.
const (
	honest     = `ip route add 224.0.0.0/4 dev eth0 2>/dev/null; ping -c 1 -W 1 -I OWN -s 77 224.0.0.1`
	honestSize = 20 + 8 + 77
)

// The forgeries, and what else is tried.
const (
	packetsOfAnother  = "IPv4 of another"
	neighbourAnother  = "ARP of another"
	packetsOfIPv6     = "IPv6"
	packetsOfHardware = "IPv4 of other hardware"
	neighbourHardware = "ARP of other hardware"
	portOfOurs        = "a port of the container"
)

// TestForgedPacketsGoNoFurtherThanTheFirewall sends the same with and without
// one: what it stops is seen where nothing does.
func TestForgedPacketsGoNoFurtherThanTheFirewall(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	for name, c := range map[string]struct {
		address string
		options map[string]string
		open    []string // what gets through
	}{
		"without a firewall": {"10.77.0.16", nil, []string{packetsOfAnother, neighbourAnother, packetsOfIPv6, packetsOfHardware, neighbourHardware, portOfOurs}},
		// What the plugin sets in a template. Its clones have their addresses by
		// DHCP, of which the firewall knows nothing.
		"as a template's": {"10.77.0.17", map[string]string{"macfilter": "1", "ipfilter": "0", "dhcp": "1"}, []string{packetsOfAnother, neighbourAnother, packetsOfIPv6}},
		"of its address":  {"10.77.0.18", map[string]string{"macfilter": "1", "ipfilter": "1", "dhcp": "0", "ndp": "0"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := w.busybox(t, "name=eth0,bridge="+lab.Bridge+",ip="+c.address+"/24,host-managed=1,firewall=1")
			if c.options != nil {
				options := map[string]string{"enable": "1", "policy_in": "DROP", "policy_out": "ACCEPT"}
				maps.Copy(options, c.options)
				if _, err := w.Call(http.MethodPut, node.LXC(g.vmid, "/firewall/options"), options); err != nil {
					t.Fatal(err)
				}
			}
			g.start()
			came := listenTo(t, lab.Bridge)
			for what, open := range g.forge(c.address, came) {
				if open != slices.Contains(c.open, what) {
					t.Errorf("%s gets through: %t; there came\n%s", what, open, came)
				}
			}
		})
	}
}

// forge has the container send what it can, and says what of it has come.
func (g *guest) forge(address string, came *frames) map[string]bool {
	g.Helper()
	hardware := "02:00:00:00:00:" + address[strings.LastIndexByte(address, '.')+1:]
	who := strings.NewReplacer("OWN", address, "FORGED", forgedAddress, "HARDWARE", hardware)
	out, err := g.exec(who.Replace(forge))
	if err != nil {
		g.Fatalf("%v: %s", err, out)
	}
	own := out[strings.LastIndexByte(out, '\n')+1:]
	g.until("what it sent last has come", func() bool {
		_, _ = g.exec(who.Replace(honest)) // nobody answers
		return came.has(fmt.Sprintf("%s %d bytes of %s", own, honestSize, address))
	})
	got := map[string]bool{
		packetsOfAnother: came.has(own + " IPv4 " + forgedAddress), neighbourAnother: came.has(own + " ARP " + forgedAddress),
		packetsOfHardware: came.has(hardware + " IPv4 " + address), neighbourHardware: came.has(hardware + " ARP " + address),
		portOfOurs: answers(address + ":7"),
	}
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil {
		got[packetsOfIPv6] = came.has(own + " IPv6")
	}
	return got
}

// answers reports whether somebody takes a connection.
func answers(address string) bool {
	c, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

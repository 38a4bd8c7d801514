package lxc

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/test/lxc/node"
)

// busybox is a container with nothing but busybox, for others to attack.
func (w *world) busybox(t testing.TB, net0 string) *guest {
	t.Helper()
	vmid := w.NextVMID()
	g := w.guest(t, &node.Guest{W: w.World, VMID: vmid, Name: fmt.Sprintf("b-%d", vmid)})
	err := w.Task(http.MethodPost, "/nodes/"+lab.Host+"/lxc", map[string]string{
		"vmid": fmt.Sprint(g.vmid), "ostemplate": "local:vztmpl/busybox_amd64.tar", "hostname": g.name, "rootfs": "local-zfs:1",
		"unprivileged": "1", "memory": "128", "net0": net0,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.destroy)
	return g
}

// listen serves connections on one of the node's addresses, and counts them.
func listen(t testing.TB, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
}

// shield gives a container's net0 a static address and the closest firewall that
// there is: its own addresses only, nothing in, and out to anywhere but private
// networks, of which GitHub's place here is an exception.
func (g *guest) shield(address string) {
	g.Helper()
	_, port, _ := net.SplitHostPort(g.w.Broker)
	g.set(map[string]string{"net0": "name=eth0,bridge=" + lab.Bridge + ",ip=" + address + "/24,gw=" + lab.Gateway + ",firewall=1"})
	firewall := func(method, rest string, params map[string]string) {
		if _, err := g.w.Call(method, node.LXC(g.vmid, "/firewall"+rest), params); err != nil {
			g.Fatal(err)
		}
	}
	firewall(http.MethodPut, "/options", map[string]string{"enable": "1", "policy_in": "DROP", "policy_out": "ACCEPT", "macfilter": "1", "ipfilter": "1", "dhcp": "0", "ndp": "0"})
	// The last one that is added comes first.
	for _, rule := range []map[string]string{
		{"action": "DROP", "dest": "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,169.254.0.0/16"},
		{"action": "ACCEPT", "dest": lab.Gateway, "proto": "tcp", "dport": port},
	} {
		rule["type"], rule["enable"] = "out", "1"
		firewall(http.MethodPost, "/rules", rule)
	}
}

// attempts is a hostile job: each line of its log says what it could do.
const attempts = `try() { name=$1; shift; if timeout 3 "$@" >/dev/null 2>&1; then echo "TRY $name: open"; else echo "TRY $name: closed"; fi; }
tcp() { try "$1" bash -c "exec 3<>/dev/tcp/$2/$3"; }
tcp github GATEWAY BROKER
tcp "another port of the gateway" GATEWAY 7001
tcp "Proxmox API" MANAGEMENT 8006
tcp "Proxmox API by the gateway" GATEWAY 8006
tcp "daemon's webhook" MANAGEMENT 8080
tcp "root half's port" GATEWAY HALFPORT
tcp "other container" VICTIM 7
try "other container by ping" ping -c 1 -W 2 VICTIM
sudo -n sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0
sudo -n ip -6 address add fe80::99/64 dev eth0 nodad
try "other container by IPv6" bash -c 'ping -6 -c 1 -W 2 ff02::1%eth0 | grep "bytes from" | grep -v "fe80::99"'
try "Proxmox's files" ls /etc/pve
try "root half's socket" sudo -n ls HALFDIR
try "another JIT config" sudo -n bash -c 'cat /proc/[0-9]*/environ | tr "\0" "\n" | grep "^ACTIONS_RUNNER_INPUT_JITCONFIG=[^x]" | sort -u | tail -n +2 | grep .'
try "node's disk" sudo -n bash -c 'dd if=/dev/loop0 count=1 || mknod /tmp/disk b 7 0 && dd if=/tmp/disk count=1'
try "node's kernel log" sudo -n dmesg
try "a module of the kernel" sudo -n modprobe dummy
try "node's clock" sudo -n date -s "2001-01-01"
sudo -n ip address add VICTIM/24 dev eth0
sudo -n arping -c 2 -w 3 -U -I eth0 -s VICTIM VICTIM | grep "Sent 2 probes"
sudo -n ip address del VICTIM/24 dev eth0
sudo -n ip address add 10.77.0.14/24 dev eth0
try "GitHub from another address" curl --silent --show-error --max-time 2 --interface 10.77.0.14 http://GATEWAY:BROKER/`

func TestHostileJobReachesGitHubAndNothingElse(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	const victimAddress = "10.77.0.9"
	victim := w.busybox(t, "name=eth0,bridge="+lab.Bridge+",ip="+victimAddress+"/24,host-managed=1,hwaddr=BC:24:11:99:99:99")
	victim.start()
	victim.until("it listens", func() bool {
		out, _ := victim.exec("/bin/busybox httpd -p 7 -h /tmp >/dev/null 2>&1; cat /proc/net/tcp /proc/net/tcp6")
		return strings.Contains(out, ":0007 ")
	})
	for _, a := range []string{lab.Gateway + ":7001", lab.Gateway + ":8006", lab.ManagementAddress + ":8006", lab.ManagementAddress + ":8080"} {
		listen(t, a)
	}
	// The victim can be reached by who is not shielded: the node.
	c, err := net.DialTimeout("tcp", victimAddress+":7", 10*time.Second)
	if err != nil {
		t.Fatalf("the victim cannot be reached at all: %v", err)
	}
	_ = c.Close()
	g := w.clone(t, w.template(t))
	g.shield("10.77.0.10")
	_, port, _ := net.SplitHostPort(w.Broker)
	w.half(t)
	script := strings.NewReplacer("HALFDIR", filepath.Dir(halfSocket), "HALFPORT", halfPort, "GATEWAY", lab.Gateway, "BROKER", port, "MANAGEMENT", lab.ManagementAddress, "VICTIM", victimAddress).Replace(attempts)
	j, log := g.runs(script)
	if j.Conclusion != hub.Success {
		t.Errorf("the job ended with %q", j.Conclusion)
	}
	if n := strings.Count(log, "TRY ") - strings.Count(script, "TRY "); n != 17 {
		t.Errorf("%d attempts were made, want 17:\n%s", n, log)
	}
	for line := range strings.Lines(log) {
		what, result, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "TRY ")), ": ")
		if !strings.HasPrefix(line, "TRY ") || !ok || result != "open" && result != "closed" {
			continue
		}
		if open := result == "open"; open != (what == "github") {
			t.Errorf("%s is %s to a job", what, result)
		}
	}
	text, _ := os.ReadFile("/proc/net/arp")
	neighbour := regexp.MustCompile(`(?mi)^10\.77\.0\.9 .* (\S+) +\S+ +` + lab.Bridge + `$`).FindStringSubmatch(string(text))
	if neighbour == nil || !strings.EqualFold(neighbour[1], "bc:24:11:99:99:99") {
		t.Errorf("the victim's address was taken over:\n%s", text)
	}
	g.ended()
}

// VLANs are apart: what is on another one is not there.
func TestContainersOfOtherVLANsAreNotThere(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	one := w.busybox(t, "name=eth0,bridge="+lab.Bridge+",tag=30,ip=10.100.30.9/24,host-managed=1")
	two := w.busybox(t, "name=eth0,bridge="+lab.Bridge+",tag=31,ip=10.100.30.10/24,host-managed=1")
	three := w.busybox(t, "name=eth0,bridge="+lab.Bridge+",tag=30,ip=10.100.30.11/24,host-managed=1")
	for _, g := range []*guest{one, two, three} {
		g.start()
	}
	if out, err := three.exec("ping -c 1 -W 5 10.100.30.9"); err != nil {
		t.Errorf("the same VLAN: %v: %s", err, out)
	}
	if out, err := two.exec("ping -c 1 -W 1 10.100.30.9"); err == nil {
		t.Errorf("another VLAN is reached: %s", out)
	}
}

func TestProcessesLeftBehindEndWithTheContainer(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	g := w.clone(t, w.template(t))
	j, log := g.runs(`env -u RUNNER_TRACKING_ID setsid bash -c 'trap "" TERM INT HUP; while true; do sleep 1; done' >/dev/null 2>&1 </dev/null &
sudo -n systemd-run --quiet sleep 1000000
sleep 1000000 &
echo left`)
	if j.Conclusion != hub.Success {
		t.Errorf("the job ended with %q:\n%s", j.Conclusion, log)
	}
	g.ended()
	if _, err := os.Stat(filepath.Join("/sys/fs/cgroup/lxc", fmt.Sprint(g.vmid))); err == nil {
		t.Error("the container's cgroup is still there")
	}
}

// short makes the guest's times short.
func (g *guest) short(lines string) {
	g.write("etc/systemd/system/dayfly-runner.service.d/test.conf", "[Service]\n"+lines)
}

func TestJobMayNotOutliveItsContainersTime(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	g := w.clone(t, w.template(t))
	g.short("ExecStart=\nExecStart=/usr/lib/dayfly/begin runner 5 /opt/actions-runner/bin/Runner.Listener run\nTimeoutStopSec=2\n")
	g.job(`trap "" INT TERM; while true; do sleep 1; done`)
	g.launch()
	g.ended()
	if got := g.read("var/lib/dayfly/exit.json"); !strings.Contains(got, `"result":"timeout"`) {
		t.Errorf("exit.json: %s", got)
	}
}

// A fork bomb ends at the runner's limit, whoever sets it off: root of a
// container is bound by what it was given like anybody.
func TestForkBombIsBounded(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	const most, rest = 250, 150 // what the bomb may have, and all that is not of it
	for who, bomb := range map[string]string{
		"as the runner": `bomb() { bomb | bomb & }; bomb; sleep 600`,
		"as root":       `sudo -n bash -c 'bomb() { bomb | bomb & }; bomb; sleep 600'`,
	} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			g := w.clone(t, w.template(t))
			g.short(fmt.Sprintf("LimitNPROC=%d\nTimeoutStopSec=2\nRuntimeMaxSec=15\n", most))
			g.job(bomb)
			g.launch()
			processes := func() int {
				out, _ := g.exec("ls -d /proc/[0-9]* | wc -l")
				n, _ := strconv.Atoi(out)
				return n
			}
			g.until("the bomb goes off", func() bool { return processes() > most-50 })
			other := w.busybox(t, "name=eth0,bridge="+lab.Bridge+",ip=10.77.0.12/24")
			other.start()
			if out, err := other.exec("echo fine"); err != nil || out != "fine" {
				t.Errorf("another container cannot work beside a fork bomb: %v: %s", err, out)
			}
			for range 20 {
				if n := processes(); n > most+rest {
					t.Errorf("%d processes, of which the bomb may have %d", n, most)
					break
				}
			}
			g.ended()
		})
	}
}

func TestJobThatTakesAllMemoryFailsAndIsReported(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	g := w.clone(t, w.template(t))
	g.set(map[string]string{"memory": "512"})
	if _, err := os.Stat("/run/dayfly-lab/cgroup/memory"); err != nil {
		if text, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); !strings.Contains(string(text), "memory") {
			lab.Lacking(t, errors.New("the kernel's memory controller is not to be had"))
		}
	}
	j, log := g.runs(`tail /dev/zero`)
	if j.Conclusion != hub.Failure || j.Lost {
		t.Errorf("the job ended with %q, lost %v:\n%s", j.Conclusion, j.Lost, log)
	}
	g.ended()
	if got := g.read("var/lib/dayfly/exit.json"); !strings.Contains(got, `"status":"0"`) {
		t.Errorf("exit.json: %s", got)
	}
}

func TestFullDiskIsBoundedAndLeavesEvidence(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	g := w.clone(t, w.template(t))
	if out, err := exec.Command("btrfs", "qgroup", "limit", "2560M", g.Path("")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	j, log := g.runs(`dd if=/dev/zero of=fill bs=1M count=20000 || true
sync; echo more >more || true
df -k . | tail -1`)
	g.ended()
	size, err := os.Stat(g.Path("opt/actions-runner/_work/app/app/fill"))
	if err != nil || size.Size() > 3<<30 {
		t.Errorf("the disk of 2.5 GiB took %d bytes, %v", size.Size(), err)
	}
	if !strings.Contains(log, "No space left") && !strings.Contains(log, "Disk quota exceeded") {
		t.Errorf("the disk was not filled (%q):\n%s", j.Conclusion, log)
	}
	if got := g.read("var/lib/dayfly/exit.json"); !strings.Contains(got, `"code":"exited"`) {
		t.Errorf("exit.json: %s", got)
	}
}

func TestJobThatPowersOffLeavesALostRunner(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	g := w.clone(t, w.template(t))
	id := g.job(`sudo -n systemctl poweroff --force --force; sleep 600`)
	g.launch()
	g.ended()
	if j, _ := w.GitHub.Job(id); j.Status == hub.StatusCompleted && j.Conclusion == hub.Success {
		t.Errorf("the job ended with %q", j.Conclusion)
	}
}

func TestContainerThatWasStartedTwiceRunsNothing(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	g := w.clone(t, w.template(t))
	if j, log := g.runs("true"); j.Conclusion != hub.Success {
		t.Fatalf("the job ended with %q:\n%s", j.Conclusion, log)
	}
	g.ended()
	before := len(w.GitHub.History())
	g.start() // its environment still has the config
	g.ended()
	if got := g.read("var/lib/dayfly/journal.txt"); !strings.Contains(got, "this container has run already") {
		t.Errorf("the journal does not say so: %s", got)
	}
	if got := g.read("var/lib/dayfly/exit.json"); !strings.Contains(got, `"status":"17"`) {
		t.Errorf("the end is told as %s", got)
	}
	for _, e := range w.GitHub.History()[before:] {
		if e.Runner == g.name {
			t.Errorf("GitHub heard of it again: %s", e)
		}
	}
}

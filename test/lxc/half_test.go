package lxc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/host"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/test/lxc/node"
)

var instanceKey = fleet.NewSecret("0123456789abcdef0123456789abcdef")

// Where the node's root half is: a socket, and a port that containers without
// the firewall reach.
const (
	halfSocket = "/run/dayfly-host/host.sock"
	halfPort   = "7410"
)

// half is the node's root half, as an operator runs it. It stays until the
// tests end.
func (w *world) half(t testing.TB) *host.Client {
	t.Helper()
	w.tool.Do(func() {
		if err := lab.Tool(w.Proxmox.PCT); err != nil {
			t.Fatal(err)
		}
	})
	if err := runHalf(); err != nil {
		t.Fatal(err)
	}
	return host.Local(halfSocket)
}

// halfLog is what connections that the root half refuses make it say.
var halfLog spoken

// spoken is what has been said so far.
type spoken struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (s *spoken) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// String is all of it.
func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

var runHalf = sync.OnceValue(func() error {
	cfg := host.Node()
	cfg.PCT, cfg.Tasks = []string{lab.ToolPath}, filepath.Join(filepath.Dir(lab.ToolPath), "tasks")
	cfg.Node, cfg.Version, cfg.First, cfg.Last, cfg.Pool, cfg.Key = lab.Host, "test", firstVMID, firstVMID+9999, pve.LabRunners, instanceKey
	s, err := host.New(cfg)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(halfSocket), 0o755); err != nil {
		return err
	}
	local, err := net.Listen("unix", halfSocket)
	if err != nil {
		return err
	}
	remote, err := net.Listen("tcp", lab.Gateway+":"+halfPort)
	if err != nil {
		return err
	}
	authority, err := host.NewAuthority(time.Now())
	if err != nil {
		return err
	}
	keys, err := authority.Node(lab.Host, time.Now())
	if err != nil {
		return err
	}
	secure, err := keys.Listener(remote)
	if err != nil {
		return err
	}
	for _, l := range []net.Listener{host.Peers(local, slog.New(slog.DiscardHandler), 0), secure} {
		srv := &http.Server{Handler: s.Handler(), ErrorLog: log.New(&halfLog, "", 0), ReadHeaderTimeout: 10 * time.Second}
		go func() { _ = srv.Serve(l) }()
	}
	go func() { _ = s.Run(context.Background()) }()
	return nil
})

// adopt makes a container that does not run one that the root half serves: in
// the runners' resource pool, with a signed manifest.
func (g *guest) adopt() {
	g.Helper()
	m := fleet.Manifest{
		Schema: fleet.ManifestSchema, Name: g.name, Pool: "linux", Scope: "acme", VMID: fleet.VMID(g.vmid), Node: lab.Host, Configured: true, Launched: true,
	}
	g.set(map[string]string{"description": m.Sign(instanceKey)})
	if _, err := g.w.Call(http.MethodPut, "/pools", map[string]string{"poolid": pve.LabRunners, "vms": fmt.Sprint(g.vmid)}); err != nil {
		g.Fatal(err)
	}
}

// inject has the root half bring a fresh JIT config into the container.
func (g *guest) inject() {
	g.Helper()
	config := g.mint()
	if _, err := g.w.half(g.TB).Inject(g.Context(), fleet.VMID(g.vmid), g.name, fleet.NewSecret(config), nil, nil); err != nil {
		g.Fatalf("%v\n%s", err, g.log())
	}
}

// canary is in files of the node and of another container that no job may make
// anybody read.
const canary = "canary-of-another"

// traps is a hostile job in a container without a firewall. First it tries what
// its user and its root could want of the root half and of another container,
// each line of /tries says with what result. Then it lays traps for whoever
// collects, says so, and goes on until it is told; then it powers off at once.
const traps = `sudo -n touch /tries && sudo -n chmod 666 /tries
try() { name=$1; shift; if timeout 5 "$@" >/dev/null 2>&1; then echo "TRY $name: open" >>/tries; else echo "TRY $name: closed" >>/tries; fi; }
try "to write how it ended, as the runner" bash -c 'echo forged >/run/dayfly/exit.json'
try "to write that on disk, as the runner" bash -c 'echo forged >/var/lib/dayfly/exit.json'
try "to hide that the container was used, as the runner" rm -f /var/lib/dayfly/started
try "to lay down another config, as the runner" bash -c 'echo forged >/run/dayfly/jit'
try "the root half's socket" sudo -n ls HALFDIR
try "the root half's socket by PID 1" sudo -n ls /proc/1/root/HALFDIR
try "the root half's port without a certificate" bash -c 'printf "GET /v1/hello HTTP/1.1\r\nHost: host\r\nDayfly-Contract: 2\r\n\r\n" | timeout 4 openssl s_client -quiet -connect GATEWAY:HALFPORT 2>/dev/null | grep -i contract'
try "the root half's port with a certificate of its own" bash -c 'cd /tmp && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k.pem -out c.pem -subj /CN=daemon.dayfly.internal -days 2 && printf "GET /v1/hello HTTP/1.1\r\nHost: host\r\nDayfly-Contract: 2\r\n\r\n" | timeout 4 openssl s_client -quiet -cert c.pem -key k.pem -connect GATEWAY:HALFPORT | grep -i contract'
try "the root half's port without TLS" bash -c 'exec 3<>/dev/tcp/GATEWAY/HALFPORT; printf "GET /v1/hello HTTP/1.1\r\nHost: host\r\nDayfly-Contract: 2\r\n\r\n" >&3; grep -i "HTTP/1.1 200" <&3'
try "another container's config, in processes" sudo -n bash -c 'cat /proc/[0-9]*/environ | tr "\0" "\n" | grep "[c]anary-of-another"'
try "another container's config, in files" sudo -n bash -c 'grep -rslE -D skip "[c]anary-of-another" /run /dev/shm /var/lib /mnt | grep .'
try "another container's files" sudo -n ls VICTIMROOT/bin
try "another container's cgroup" sudo -n bash -c 'ls /sys/fs/cgroup/lxc/VICTIM || ls /proc/1/root/sys/fs/cgroup/../../VICTIM || grep VICTIM /proc/*/cgroup'
try "a device of the node where logs are" sudo -n mknod /opt/actions-runner/_diag/device.log b 7 0
sudo -n bash -s <<'ROOT'
cd /opt/actions-runner/_diag
ln -s NODEFILE a.log
ln -s /proc/1/root/NODEFILE b.log
ln -s ../../../../../../../../../NODEFILE c.log
ln -s VICTIMROOT/secret d.log
ln -s /proc/self/environ e.log
ln -s /etc/shadow f.log
mkfifo g.log
truncate -s 900G h.log
touch i.log; mount --bind /proc/kmsg i.log
touch j.log; mount --bind /dev/zero j.log
python3 -c 'pass' 2>/dev/null; touch "$(printf 'k\033]0;x\007.log')"
mkdir l.log
for i in $(seq 600); do : >"n$i.log"; done
ln -s /etc/shadow swap.bad; echo good >swap.good
(while :; do ln -f swap.good swap.log; ln -sf /etc/shadow swap.new; mv -f swap.new swap.log; done) >/dev/null 2>&1 &
rm -rf /var/lib/dayfly/evidence; ln -s /etc /var/lib/dayfly/evidence
head -c 20000000 /dev/zero | tr '\0' x >/var/lib/dayfly/journal.txt
printf '{"result":"success","code":"exited","status":"7\\u001b]0;x\\u0007"}' >/run/dayfly/exit.json
rm -f /run/dayfly/job/started /run/dayfly/job/completed; ln -s /etc/shadow /run/dayfly/job/started; ln -s /etc/shadow /run/dayfly/job/completed
hostname somebody-else; mkdir -p /sys/fs/cgroup/lxc/VICTIM
ROOT
sudo -n touch /trapped
until [ -e /go ]; do sleep 0.05; done
sudo -n systemctl poweroff --force --force; sleep 600`

// victim is a container that the root half has given a config: a canary.
func (w *world) victim(t *testing.T) *guest {
	v := w.busybox(t, "name=eth0,bridge="+lab.Bridge+",ip=10.77.0.20/24,host-managed=1")
	v.adopt()
	v.write("secret", canary+"\n")
	v.start()
	if _, err := w.half(t).Inject(t.Context(), fleet.VMID(v.vmid), v.name, fleet.NewSecret(canary), nil, nil); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestHostileJobLeadsTheRootHalfNowhere has a job and its root attack the one
// thing on the node that looks into containers.
func TestHostileJobLeadsTheRootHalfNowhere(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	c := w.half(t)
	victim := w.victim(t)
	const nodeFile = "/etc/dayfly-node-secret"
	if err := os.WriteFile(nodeFile, []byte(canary+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	g := w.clone(t, w.template(t))
	g.adopt()
	g.job(strings.NewReplacer("HALFDIR", filepath.Dir(halfSocket), "HALFPORT", halfPort, "GATEWAY", lab.Gateway, "NODEFILE", nodeFile,
		"VICTIMROOT", victim.Path(""), "VICTIM", fmt.Sprint(victim.vmid)).Replace(traps))
	g.start()
	g.inject()
	g.until("its traps are laid", func() bool { _, err := os.Lstat(g.Path("trapped")); return err == nil })
	id := fleet.VMID(g.vmid)
	if work, err := c.Busy(t.Context(), id); err != nil || !work.Worker || !work.Taken {
		t.Errorf("the job at work is not seen: %+v, %v", work, err)
	}
	began := time.Now()
	const looks = 40
	for range looks {
		e, err := c.Collect(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		g.harmless(e)
	}
	if took := time.Since(began); took > looks*time.Second {
		t.Errorf("%d looks took %s", looks, took)
	}
	g.write("go", "")
	g.ended()
	// It powered off without a moment's notice; what it left is kept all the same.
	g.until("the root half has seen the end", func() bool { e, err := c.Collect(t.Context(), id); return err == nil && e.Over })
	e, err := c.Collect(t.Context(), id)
	if err != nil || e.VMID != id || e.Name != g.name || len(e.Files) == 0 || e.Stats.CPU == 0 {
		t.Errorf("after the end: %+v, %v", e.Stats, err)
	}
	g.harmless(e)
	g.closed(14)
	for _, want := range []string{"client didn't provide a certificate", "certificate signed by unknown authority", "client sent an HTTP request to an HTTPS server"} {
		if !strings.Contains(halfLog.String(), want) {
			t.Errorf("the root half's port was not reached: its log lacks %q", want)
		}
	}
	if work, err := c.Busy(t.Context(), fleet.VMID(victim.vmid)); err != nil || !work.Taken || work.Worker {
		t.Errorf("the other container is not as it was: %+v, %v", work, err)
	}
}

// harmless checks that evidence is bounded and the container's own.
func (g *guest) harmless(e host.Evidence) {
	g.Helper()
	size := 0
	for _, f := range e.Files {
		size += len(f.Data)
		text := string(f.Data)
		if strings.Contains(text, canary) || strings.Contains(text, "root:") || strings.ContainsAny(f.Path, "\033\007") {
			g.Errorf("collected %q: %.60q", f.Path, f.Data)
		}
		if strings.HasSuffix(f.Path, "/swap.log") && text != "" && text != "good\n" {
			g.Errorf("a rename led to %.60q", text)
		}
	}
	if size > 512<<10 || len(e.Files) > 24 || len(e.Missed) > 24 || strings.ContainsAny(e.Exit+strings.Join(e.Missed, ""), "\033\007") {
		g.Errorf("%d bytes in %d files, %d missed, exit %q", size, len(e.Files), len(e.Missed), e.Exit)
	}
	if len(e.Missed) == 0 {
		g.Error("nothing was missed: no trap was met")
	}
}

// closed checks that a number of attempts were made, and all in vain.
func (g *guest) closed(attempts int) {
	g.Helper()
	text := g.read("tries")
	if n := strings.Count(text, "TRY "); n != attempts {
		g.Errorf("%d attempts were made, want %d:\n%s", n, attempts, text)
	}
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, ": closed\n") {
			g.Errorf("a job could %s", line)
		}
	}
}

// TestForgedWorkerHoldsOnlyItsOwnContainer: a job that looks busy when it is
// over is not disturbed, until its container's time is over.
func TestForgedWorkerHoldsOnlyItsOwnContainer(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	c := w.half(t)
	g := w.clone(t, w.template(t))
	g.adopt()
	g.short("RuntimeMaxSec=8\nTimeoutStopSec=2\n")
	id := g.job(`cp /bin/sleep /tmp/Runner.Worker
env -u RUNNER_TRACKING_ID setsid sudo -n bash -c 'trap "" TERM INT; exec /tmp/Runner.Worker 100000' >/dev/null 2>&1 </dev/null &
trap "" INT TERM; sleep 100000`)
	g.start()
	g.inject()
	g.until("it looks busy", func() bool { work, err := c.Busy(t.Context(), fleet.VMID(g.vmid)); return err == nil && work.Worker })
	g.ended()
	g.until("nothing runs", func() bool {
		v, err := c.Watch(t.Context(), "")
		if err != nil {
			return false
		}
		for _, r := range v.Running {
			if r.VMID == fleet.VMID(g.vmid) {
				return false
			}
		}
		return true
	})
	if j, _ := w.GitHub.Job(id); j.Conclusion == hub.Success {
		t.Errorf("the job ended with %q", j.Conclusion)
	}
}

// TestLeftoverIsRemovedByTheNodesTool: what a task that was killed has left, no
// call of the API removes.
func TestLeftoverIsRemovedByTheNodesTool(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	c := w.half(t)
	g := w.busybox(t, "name=eth0,bridge="+lab.Bridge+",ip=10.77.0.21/24,host-managed=1")
	id := fleet.VMID(g.vmid)
	if err := c.Repair(t.Context(), id, g.name, host.Remove); !errors.Is(err, fleet.ErrDenied) {
		t.Errorf("a container of somebody else: %v", err)
	}
	g.adopt()
	g.start()
	if err := c.Repair(t.Context(), id, g.name, host.Remove); !errors.Is(err, fleet.ErrBusy) {
		t.Errorf("a container that runs: %v", err)
	}
	if err := w.Task(http.MethodPost, node.LXC(g.vmid, "/status/stop"), nil); err != nil {
		t.Fatal(err)
	}
	g.ended()
	w.Proxmox.SetOption(g.vmid, "lock", "disk")
	root := g.Path("")
	if err := c.Repair(t.Context(), id, g.name, host.Remove); err != nil {
		t.Fatal(err)
	}
	if _, there := w.Proxmox.Container(g.vmid); there {
		t.Error("the container is still there")
	}
	g.until("its files are gone", func() bool { _, err := os.Stat(root); return errors.Is(err, fs.ErrNotExist) })
	for _, left := range []string{fmt.Sprintf("/etc/pve/nodes/%s/lxc/%d.conf", lab.Host, g.vmid), fmt.Sprintf("/sys/fs/cgroup/lxc/%d", g.vmid)} {
		if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", left, err)
		}
	}
}

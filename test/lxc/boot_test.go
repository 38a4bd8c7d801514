package lxc

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/test/lxc/node"
)

// since is when a unit of a container reached a state, from a moment on.
func (g *guest) since(begin time.Duration, unit, property string) time.Duration {
	g.Helper()
	return g.told("systemctl show --value --property "+property+" "+unit) - begin
}

// told is a time in microseconds that a command prints.
func (g *guest) told(command string) time.Duration {
	g.Helper()
	out, err := g.exec(command)
	micros, bad := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil || bad != nil || micros == 0 {
		g.Fatalf("%s: %q, %v", command, out, err)
	}
	return time.Duration(micros) * time.Microsecond
}

// shim stands for a program in the place of PID 1 that starts the runner beside
// systemd. It does for the runner what the unit does, and no more: it waits for
// a route, without which the runner would wait 30 s.
const shim = `export PATH=/usr/sbin:/usr/bin:/sbin:/bin
now() { date +%s%N; }
[ "${1:-}" = runner ] || { setsid /bin/sh /usr/lib/dayfly-shim runner & exec /sbin/init; }
echo "program $(now)" >/var/lib/dayfly/shim
until ip route show default | grep -q .; do sleep 0.02; done
echo "route $(now)" >>/var/lib/dayfly/shim
cd /opt/actions-runner; umask 077; set -a; . /run/dayfly/jit; set +a; rm -f /run/dayfly/jit
exec setpriv --reuid runner --regid runner --init-groups bin/Runner.Listener run
`

// BenchmarkBoot measures how the guest had best start the runner: when things
// happen from the order to start on, by lxc-start alone, with the config there
// from the beginning. "unit" is what is baked: an early unit. "shim" is a
// program in the place of PID 1, which runs almost at once and then spends nine
// tenths of the time waiting for a route, as the runner must: systemd-networkd
// makes it. What counts is when GitHub hears of the runner, and the shim is no
// earlier there (1.1 s by the unit, 1.3 s by the shim, on two quiet cores), while
// it would have to repeat the unit's limits, lifetime and evidence: the guest has
// no shim.
func BenchmarkBoot(b *testing.B) {
	for name, measure := range map[string]func(*guest, time.Time, time.Duration) map[string]time.Duration{"unit": (*guest).unitBoot, "shim": (*guest).shimBoot} {
		b.Run(name, func(b *testing.B) {
			w := inLab(b)
			template := w.template(b)
			sums := map[string]time.Duration{}
			for b.Loop() {
				g := w.clone(b, template)
				var raw [][2]string
				if name == "shim" {
					g.write("usr/lib/dayfly-shim", shim)
					unit := g.Path("etc/systemd/system/dayfly-runner.service")
					if err := errors.Join(os.Remove(unit), os.Symlink("/dev/null", unit)); err != nil {
						b.Fatal(err)
					}
					raw = append(raw, [2]string{"lxc.init.cmd", "/bin/sh /usr/lib/dayfly-shim"})
				}
				bare, err := g.Bare(w.GitHub.Mint(scope, g.name, labels...), raw...)
				if err != nil {
					b.Fatal(err)
				}
				begin, clock := time.Now(), node.Clock()
				if err := bare.Start(); err != nil {
					b.Fatal(err)
				}
				sums["github-ms"] += g.heard(hub.Connected).Sub(begin)
				g.until("it is up", func() bool { out, _ := g.exec("systemctl is-active multi-user.target"); return out == "active" })
				sums["multi-user-ms"] += g.since(clock, "multi-user.target", "ActiveEnterTimestampMonotonic")
				for what, took := range measure(g, begin, clock) {
					sums[what] += took
				}
				if err := bare.Kill(); err != nil {
					b.Fatal(err)
				}
				g.destroy()
			}
			b.ReportMetric(0, "ns/op") // with all that is waited for
			for name, sum := range sums {
				b.ReportMetric(float64(sum.Microseconds())/1000/float64(b.N), name)
			}
		})
	}
}

// heard waits until GitHub has heard something of the container's runner, and
// tells when it did.
func (g *guest) heard(kind hub.EventKind) (at time.Time) {
	g.Helper()
	g.until("GitHub hears of its runner", func() bool {
		for _, e := range g.w.GitHub.History() {
			if e.Runner == g.name && e.Kind == kind {
				at = e.At
			}
		}
		return !at.IsZero()
	})
	return at
}

func (g *guest) unitBoot(_ time.Time, clock time.Duration) map[string]time.Duration {
	return map[string]time.Duration{
		"begin-ms":    g.since(clock, "dayfly-runner.service", "ActiveEnterTimestampMonotonic"),
		"networkd-ms": g.since(clock, "systemd-networkd.service", "ActiveEnterTimestampMonotonic"),
		"runner-ms":   g.told(node.TellBegin) - clock,
	}
}

func (g *guest) shimBoot(begin time.Time, _ time.Duration) map[string]time.Duration {
	took := map[string]time.Duration{}
	for line := range strings.Lines(g.read("var/lib/dayfly/shim")) {
		what, at, _ := strings.Cut(strings.TrimSpace(line), " ")
		nanos, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			g.Fatalf("the shim says %q", line)
		}
		took[what+"-ms"] = time.Unix(0, nanos).Sub(begin)
	}
	return took
}

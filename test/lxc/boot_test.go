package lxc

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is the clock that containers share with the machine.
func monotonic(b testing.TB) time.Duration {
	b.Helper()
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// since is when a unit of a container reached a state, from a moment on.
func (g *guest) since(begin time.Duration, unit, property string) time.Duration {
	g.Helper()
	out, err := g.exec("systemctl show --value --property " + property + " " + unit)
	micros, bad := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil || bad != nil || micros == 0 {
		g.Fatalf("%s of %s: %q, %v", property, unit, out, err)
	}
	return time.Duration(micros)*time.Microsecond - begin
}

// BenchmarkBoot measures when things happen in a boot, from the order to start
// on. It decided how the guest starts: a runner needs a route, which is there
// after the early units are, so that a program in the place of PID 1, which is
// some 0.2 s earlier, would have waited for the network (scripts/guest).
func BenchmarkBoot(b *testing.B) {
	w := inLab(b)
	template := w.template(b)
	sums := map[string]time.Duration{}
	for b.Loop() {
		g := w.clone(b, template)
		begin := monotonic(b)
		g.start()
		sums["init-ms"] += monotonic(b) - begin
		g.until("it is up", func() bool { out, _ := g.exec("systemctl is-active multi-user.target"); return out == "active" })
		g.until("it has a route", func() bool { out, _ := g.exec("ip route show default"); return out != "" })
		sums["env-unit-ms"] += g.since(begin, "dayfly-env.service", "InactiveExitTimestampMonotonic")
		sums["waiting-ms"] += g.since(begin, "dayfly-runner.path", "ActiveEnterTimestampMonotonic")
		sums["networkd-ms"] += g.since(begin, "systemd-networkd.service", "ActiveEnterTimestampMonotonic")
		sums["multi-user-ms"] += g.since(begin, "multi-user.target", "ActiveEnterTimestampMonotonic")
		g.destroy()
	}
	for name, sum := range sums {
		b.ReportMetric(float64(sum.Microseconds())/1000/float64(b.N), name)
	}
}

package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// JITVariable is the variable of PID 1's environment that carries the JIT
// config, and that the real runner reads.
const JITVariable = "ACTIONS_RUNNER_INPUT_JITCONFIG"

// SmokeVariable has a guest run its smoke checks in place of a runner, and
// leave the result as an address of its loopback interface.
const (
	SmokeVariable = "DAYFLY_SMOKE"
	smokeAddress  = "127.83.77.%d/32"
	smokeDocker   = 1 << 0
	smokeEgress   = 1 << 3
)

// What a template may bake in for the simulated guest, in its Rootfs.
const (
	RootfsAilment = "guest"          // an Ailment that every container of it has
	RootfsVersion = "runner_version" // default 2.335.1
)

// variablePrefix begins the names of a pool's variables in PID 1's environment.
const variablePrefix = "DAYFLY_ENV_"

const defaultVersion = "2.335.1"

// GuestTiming is how long a guest takes. The zero value takes no time.
type GuestTiming struct {
	Boot    time.Duration // init → the runner's unit
	Connect time.Duration // the unit → listening
	Pickup  time.Duration // assigned → the job runs
	Cancel  time.Duration // a cancellation → the job has ended
	Exit    time.Duration // the job has ended → power off
	Wait    time.Duration // how long it waits for a JIT config; default 5 min
}

// guests are the insides of the containers that run. All of it happens on the
// world's agenda, one thing at a time; mu is for those who look on.
type guests struct {
	w    *World
	live map[int]*machine
	past map[int]*machine // the last boot of each, once it is over
}

// machine is one boot of one container.
type machine struct {
	w       *World
	run     pve.Running
	ail     Ailment
	rng     *rand.Rand
	gone    bool              // it was halted
	leaving bool              // it is going down by itself
	told    bool              // it was asked to shut down, and obeys
	lost    bool              // it has no network
	waiting bool              // for a JIT config
	refused bool              // GitHub did not want its version
	taken   bool              // it has, or had, one
	env     map[string]string // of the steps of its job
	session *hub.Session
	job     hub.JobID
	started time.Time
	timers  []*stage.Entry
}

// Boot implements pve.Guest.
func (g *guests) Boot(run pve.Running) { g.w.agenda.After(0, func() { g.boot(run) }) }

// Halt implements pve.Guest.
func (g *guests) Halt(node string, vmid int) { g.w.agenda.After(0, func() { g.halt(vmid) }) }

// Obeys implements pve.Obedience: a stubborn guest ignores a shutdown, any other
// stops its runner in good order.
func (g *guests) Obeys(_ string, vmid int) bool {
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	m := g.live[vmid]
	if m == nil {
		return true
	}
	m.told = m.ail != Stubborn && m.ail != HangsAtBoot
	return m.told
}

func (g *guests) boot(run pve.Running) {
	m := &machine{w: g.w, run: run, ail: g.w.ailment(run), rng: g.w.draw("machine", run.VMID, run.Boot)}
	g.w.mu.Lock()
	g.live[run.VMID] = m
	g.w.tally.Boots++
	if m.ail != Well {
		g.w.tally.Ailing++
	}
	g.w.mu.Unlock()
	g.w.stirred()
	switch m.ail {
	case HangsAtBoot:
		return
	case CrashesAtBoot:
		m.after(g.w.cfg.Guest.Boot, m.powerOff)
		return
	}
	m.after(m.takes(g.w.cfg.Guest.Boot), m.start)
}

// halt is the end of a boot from outside, or the echo of a power-off.
func (g *guests) halt(vmid int) {
	g.w.mu.Lock()
	m := g.live[vmid]
	delete(g.live, vmid)
	if m != nil {
		g.past[vmid] = m
	}
	told := m != nil && m.told
	g.w.mu.Unlock()
	g.w.stirred()
	if m == nil {
		return
	}
	m.gone = true
	for _, t := range m.timers {
		t.Stop()
	}
	g.w.watchHalt(m)
	switch {
	case m.session == nil:
	case told:
		m.session.Close()
	default:
		m.session.Lost()
	}
}

// after runs step once d has passed, if the machine still runs.
func (m *machine) after(d time.Duration, step func()) *stage.Entry {
	e := m.w.agenda.After(d, func() {
		if !m.gone {
			step()
		}
	})
	m.timers = append(m.timers, e)
	return e
}

// powerOff ends the machine from inside.
func (m *machine) powerOff() {
	if m.leaving {
		return
	}
	m.leaving = true
	m.w.Proxmox.PowerOff(m.run.VMID)
}

// start is the template's unit: it takes its JIT config from PID 1's
// environment. A container that was started before has used its config.
func (m *machine) start() {
	config := m.run.Env[JITVariable]
	switch {
	case m.run.Env[SmokeVariable] != "":
		m.after(m.takes(m.w.cfg.Guest.Connect), m.prove)
	case m.run.Boot > 1:
		m.w.count(func(t *Tally) { t.Restarts++ })
		m.powerOff()
	case config == "":
		m.waiting = true
		m.after(m.w.cfg.Guest.Wait, func() {
			if m.waiting {
				m.powerOff()
			}
		})
	default:
		m.launch(config, pooled(m.run.Env))
	}
}

// pooled are the variables of the pool in the environment of PID 1. One that the
// guest could not hand on as it is, it leaves out.
func pooled(init map[string]string) map[string]string {
	env := map[string]string{}
	for name, value := range init {
		if name, ok := strings.CutPrefix(name, variablePrefix); ok && variable.MatchString(name+"="+value) {
			env[name] = value
		}
	}
	return env
}

// takes is how long something takes in this guest.
func (m *machine) takes(d time.Duration) time.Duration {
	if m.ail == Slow {
		return 4 * d
	}
	return d
}

// prove is the end of the smoke checks. The guest stays up, for its result to
// be read.
func (m *machine) prove() {
	failed := 0
	switch m.ail {
	case BrokenDocker:
		failed = smokeDocker
	case NeverRegisters:
		failed = smokeEgress
	}
	m.w.count(func(t *Tally) { t.Smoked++ })
	m.w.Proxmox.AddAddress(m.run.VMID, fmt.Sprintf(smokeAddress, failed))
}

// launch runs the runner with the config.
func (m *machine) launch(config string, env map[string]string) {
	m.waiting = false
	m.w.mu.Lock()
	m.taken, m.env = true, env
	m.w.mu.Unlock()
	m.w.watchJIT(config, m.run)
	if m.ail == NeverRegisters || m.ail == Mute {
		return
	}
	m.after(m.takes(m.w.cfg.Guest.Connect), func() { m.connect(config, time.Now().Add(4*time.Minute)) })
}

// connect opens the session and listens. A conflict is tried again each 30 s
// for four minutes (the runner's own habit); everything else ends the runner.
func (m *machine) connect(config string, until time.Time) {
	version := m.run.Rootfs[RootfsVersion]
	if version == "" {
		version = defaultVersion
	}
	s, err := m.w.GitHub.Connect(config, version)
	if errors.Is(err, hub.ErrConflict) && time.Now().Before(until) {
		m.after(30*time.Second, func() { m.connect(config, until) })
		return
	}
	m.refused = errors.Is(err, hub.ErrDeprecated)
	if err != nil {
		m.exit()
		return
	}
	m.session = s
	err = s.Listen(hub.Listener{
		Assigned:  func(a hub.JobAssignment) { m.after(m.w.cfg.Guest.Pickup, func() { m.begin(a) }) },
		Cancelled: func(id hub.JobID) { m.after(m.w.cfg.Guest.Cancel, func() { m.end(id, hub.Cancelled) }) },
		Closed:    func(err error) { m.refused = errors.Is(err, hub.ErrDeprecated); m.after(0, m.exit) },
	})
	if err != nil {
		m.exit()
		return
	}
	switch m.ail {
	case LosesNetwork:
		m.after(m.within(2*time.Minute), m.lose)
	case ExitsEarly:
		m.after(m.within(time.Minute), m.leave)
	}
}

// within draws a time up to d.
func (m *machine) within(d time.Duration) time.Duration {
	return time.Duration(m.rng.Int64N(int64(max(d, 1))))
}

// exit is the runner's process ending: the unit powers the container off.
func (m *machine) exit() { m.after(m.w.cfg.Guest.Exit, m.powerOff) }

func (m *machine) lose() {
	m.lost = true
	m.session.Lost()
}

// leave is a runner that exits 0 without a job.
func (m *machine) leave() {
	if m.job == 0 {
		m.session.Close()
		m.exit()
	}
}

// begin takes the job and runs it.
func (m *machine) begin(a hub.JobAssignment) {
	err := m.session.Start(a.ID)
	if errors.Is(err, hub.ErrLost) {
		return // no network: it waits for ever
	}
	if err != nil {
		// The job is gone: an ephemeral runner exits 0 (since 2.336.0).
		m.session.Close()
		m.exit()
		return
	}
	m.setJob(a.ID)
	switch m.ail {
	case CrashesMidJob:
		m.after(m.within(a.Duration), m.crash)
	case NeverEnds:
	default:
		m.after(a.Duration, func() { m.end(a.ID, a.Conclusion) })
	}
}

func (m *machine) setJob(id hub.JobID) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	m.job, m.started = id, time.Now()
}

// crash is a kernel panic, an OOM kill of init: the container is down and
// nobody was told.
func (m *machine) crash() {
	m.leaving = true
	m.session.Lost()
	m.w.Proxmox.PowerOff(m.run.VMID)
}

// end reports the job's end.
func (m *machine) end(id hub.JobID, c hub.Conclusion) {
	if m.job != id || m.lost {
		return
	}
	if err := m.session.Finish(id, c); err != nil {
		return
	}
	m.setJob(0)
	m.exit()
}

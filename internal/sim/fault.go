package sim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// Faults are a world's rates of misfortune, each the share (0 to 1) of cases.
// The zero value is a world without any.
type Faults struct {
	Proxmox  APIFaults
	GitHub   APIFaults
	Half     APIFaults // of the root halves
	Tasks    float64   // Proxmox tasks that fail
	Warnings float64   // Proxmox tasks that succeed with warnings
	Restarts float64   // Proxmox calls during which a pvedaemon restarts
	Reboots  float64   // Proxmox calls during which a node reboots
	Limits   float64   // GitHub calls that begin a time of rate limiting
	Habits   hub.Habits
	Guest    GuestFaults
}

// APIFaults are what can go wrong with a request.
type APIFaults struct {
	Refuse  float64 // it does not arrive
	Lose    float64 // it has its effect, the answer is lost
	Error   float64 // 5xx without effect
	Applied float64 // 5xx with effect: Proxmox's 596
	Garble  float64 // 200 with half an answer, with effect
	Delay   float64 // it takes up to DelayBy
	DelayBy time.Duration
}

// Swarm draws faults from a seed: each kind is there or not, at a rate of its
// own, so that worlds differ in what goes wrong rather than all having a
// little of everything.
func Swarm(seed uint64) Faults {
	rng := rand.New(rand.NewPCG(seed, 0x5eed))
	some := func(most float64) float64 {
		on, share := rng.IntN(3) == 0, rng.Float64()
		if !on {
			return 0
		}
		return share * most
	}
	api := func() APIFaults {
		return APIFaults{
			Refuse: some(0.1), Lose: some(0.1), Error: some(0.1), Applied: some(0.1), Garble: some(0.03),
			Delay: some(0.2), DelayBy: time.Duration(rng.IntN(40)) * time.Second,
		}
	}
	f := Faults{
		Proxmox: api(), GitHub: api(), Tasks: some(0.15), Warnings: some(0.5), Limits: some(0.01),
		Restarts: some(0.005), Reboots: some(0.001),
		Habits: hub.Habits{
			Lose: some(0.4), Fail: some(0.3), Double: some(0.3), Late: some(0.3), LateBy: 10 * time.Minute,
			Swap: some(0.3), Forge: some(0.1), BusyLies: some(0.5), RemoveIdle: some(0.5), StaleLists: some(0.5),
		},
		Guest: GuestFaults{
			HangsAtBoot: some(0.1), CrashesAtBoot: some(0.1), NeverRegisters: some(0.1),
			LosesNetwork: some(0.1), ExitsEarly: some(0.1), CrashesMidJob: some(0.1),
			NeverEnds: some(0.05), Stubborn: some(0.2),
		},
	}
	f.Half = api()
	return f
}

// draw is a source of chance for one case of one kind: it depends on the seed
// and the case alone, so that the order in which goroutines run changes
// nothing.
func (w *World) draw(kind string, parts ...any) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, kind)
	fmt.Fprintln(h, parts...)
	return rand.New(rand.NewPCG(w.cfg.Seed, h.Sum64()))
}

// nth counts the cases of a kind, from 1.
func (w *World) nth(key string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cases[key]++
	return w.cases[key]
}

// faults are those in force.
func (w *World) faults() Faults {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calm {
		return Faults{}
	}
	return w.cfg.Faults
}

// decideProxmox is the fate of a request to Proxmox.
func (w *World) decideProxmox(r *http.Request) stage.Fault {
	all := w.faults()
	w.upset(all)
	if all.Proxmox == (APIFaults{}) {
		return stage.Fault{}
	}
	return w.decide("proxmox", r, all.Proxmox, unavailable{
		// pveproxy's own codes: 595 when it cannot connect to pvedaemon, 596 when
		// pvedaemon does not answer within 30 s, which may have worked all the same.
		before: stage.Fault{Code: 595, Reason: "Errors during connection establishment, proxy handshake: Connection refused"},
		after:  stage.Fault{Code: 596, Reason: "Connection timed out", Applied: true},
		half:   `{"data":`,
	})
}

// upset restarts a daemon or a node, at chance.
func (w *World) upset(f Faults) {
	if f.Restarts == 0 && f.Reboots == 0 {
		return
	}
	rng := w.draw("upset", w.nth("upset"))
	node := "pve"
	if n := w.cfg.PVE.Nodes; len(n) > 0 {
		node = n[rng.IntN(len(n))]
	}
	switch p := rng.Float64(); {
	case p < f.Reboots:
		w.Proxmox.RebootNode(node)
	case p < f.Reboots+f.Restarts:
		w.Proxmox.RestartDaemon(node)
	default:
		return
	}
	w.count(func(t *Tally) { t.Faults++ })
}

// limit begins a time of rate limiting, at chance: the secondary limit for half
// a minute, or now and then the primary one for five.
func (w *World) limit(f Faults) {
	if f.Limits == 0 {
		return
	}
	rng := w.draw("limit", w.nth("limit"))
	if rng.Float64() >= f.Limits {
		return
	}
	w.count(func(t *Tally) { t.Faults++ })
	if rng.IntN(4) == 0 {
		w.GitHub.Exhaust(5 * time.Minute)
		return
	}
	w.GitHub.Throttle(30 * time.Second)
}

// limits is how GitHub's secondary limit looks in this world: 403 or 429, with
// Retry-After or without.
func (w *World) limits() hub.Limits {
	rng := w.draw("limits")
	l := hub.Limits{NoRetryAfter: rng.IntN(2) == 0}
	if rng.IntN(2) == 0 {
		l.Secondary = http.StatusTooManyRequests
	}
	return l
}

// decideGitHub is the fate of a request to GitHub.
func (w *World) decideGitHub(r *http.Request) stage.Fault {
	all := w.faults()
	w.limit(all)
	if all.GitHub == (APIFaults{}) {
		return stage.Fault{}
	}
	html := http.Header{"Content-Type": {"text/html; charset=utf-8"}}
	return w.decide("github", r, all.GitHub, unavailable{
		before: stage.Fault{Code: 503, Reason: "Service Unavailable", Body: "<html><body>No server is currently available</body></html>", Header: html},
		after:  stage.Fault{Code: 502, Reason: "Bad Gateway", Body: `{"message":"Server Error"}`, Applied: true},
		half:   `{"runner":{"id":1,"na`,
	})
}

// unavailable is how a server looks when it is not well.
type unavailable struct {
	before, after stage.Fault
	half          string // of an answer
}

func (w *World) decide(api string, r *http.Request, f APIFaults, u unavailable) stage.Fault {
	key := api + r.Method + (&url.URL{Path: r.URL.Path}).String()
	rng := w.draw(key, w.nth(key))
	fault := stage.Fault{}
	p := rng.Float64()
	for _, c := range []struct {
		share float64
		fault stage.Fault
	}{
		{f.Refuse, stage.Fault{Refuse: true}},
		{f.Lose, stage.Fault{Lose: true}},
		{f.Error, u.before},
		{f.Applied, u.after},
		{f.Garble, stage.Fault{Code: http.StatusOK, Reason: "OK", Body: u.half, Applied: true,
			Header: http.Header{"Content-Type": {"application/json"}}}},
	} {
		if p < c.share {
			fault = c.fault
			break
		}
		p -= c.share
	}
	if rng.Float64() < f.Delay && f.DelayBy > 0 {
		fault.Delay = time.Duration(rng.Int64N(int64(f.DelayBy)))
	}
	if fault.Refuse || fault.Lose || fault.Code != 0 || fault.Delay > 0 {
		w.count(func(t *Tally) { t.Faults++ })
	}
	return fault
}

// taskFault is the exit status of a Proxmox task, "" for what it does itself.
func (w *World) taskFault(kind string, id int) string {
	f := w.faults()
	if f.Tasks == 0 && f.Warnings == 0 {
		return ""
	}
	p := w.draw("task", kind, id, w.nth(fmt.Sprint("task", kind, id))).Float64()
	switch {
	case p < f.Tasks:
		w.count(func(t *Tally) { t.Faults++ })
		return "command failed: exit code 5"
	case p < f.Tasks+f.Warnings:
		return "WARNINGS: 1"
	}
	return ""
}

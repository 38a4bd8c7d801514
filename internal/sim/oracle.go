package sim

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// user is a container that used a JIT config.
type user struct {
	vmid int
	name string
}

// Watch puts a Proxmox user or token (dayfly@pve!daemon) under watch: it may
// act only on containers that it made. A template may be cloned by anyone.
func (w *World) Watch(who string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watched[who] = true
}

// violate notes a broken promise.
func (w *World) violate(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(format, args...)
}

func (w *World) note(format string, args ...any) {
	w.violations = append(w.violations,
		time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// Violations is every promise broken so far: a live job killed, a JIT config
// used by two containers, a VMID held by two, an act on a container of somebody
// else or on a template.
func (w *World) Violations() []string {
	w.follow()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.violations)
}

// Secrets is every string that may never be seen in a log, a metric, a journal
// or an argument: GitHub's and those added with AddSecret.
func (w *World) Secrets() []string {
	theirs := w.GitHub.Secrets()
	w.mu.Lock()
	defer w.mu.Unlock()
	return append(slices.Clone(w.secrets), theirs...)
}

// AddSecret adds to Secrets, e.g. Proxmox's API token.
func (w *World) AddSecret(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets = append(w.secrets, s)
}

// watchJIT notes which container uses which JIT config.
func (w *World) watchJIT(config string, run pve.Running) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := user{run.VMID, run.Hostname}
	if used := w.configs[config]; len(used) > 0 && used[0] != u {
		w.note("a JIT config was used by two containers: %d (%s) and %d (%s)",
			used[0].vmid, used[0].name, u.vmid, u.name)
	}
	w.configs[config] = append(w.configs[config], u)
}

// watchHalt judges the end of a container: a live job may not be killed by
// anyone, but once it has run as long as its pool allows.
func (w *World) watchHalt(m *machine) {
	if m.job == 0 || m.lost || m.leaving {
		return
	}
	who := w.stoppedBy(m.run.VMID)
	if who == "" {
		return // the host or the guest itself
	}
	w.judgeKill(m.job, m.run.VMID, m.run.Hostname, who, time.Since(m.started))
}

// judgeKill judges who stopped a container in which a job ran.
func (w *World) judgeKill(job hub.JobID, vmid int, host, who string, ran time.Duration) {
	if limit := w.cfg.JobTimeout; limit != nil {
		if d := limit(host); d > 0 && ran >= d {
			w.count(func(t *Tally) { t.TimedOut++ })
			return
		}
	}
	w.count(func(t *Tally) { t.Killed++ })
	w.violate("live job %d was killed after %s: container %d (%s) was stopped by %s", job, ran, vmid, host, who)
}

// stoppedBy is who stopped the container last.
func (w *World) stoppedBy(vmid int) string {
	for _, e := range slices.Backward(w.Proxmox.History()) {
		if e.VMID == vmid && e.Kind == "stop" {
			return e.Who
		}
	}
	return ""
}

// follow reads what is new in Proxmox's history.
func (w *World) follow() {
	events := w.Proxmox.History()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range events[min(w.history, len(events)):] {
		w.followEvent(e)
	}
	w.history = max(w.history, len(events))
}

func (w *World) followEvent(e pve.Event) {
	if e.Kind == "create" || e.Kind == "clone" {
		if maker, held := w.made[e.VMID]; held {
			w.note("VMID %d is held by two: %s made it again after %s", e.VMID, e.Who, orHost(maker))
		}
		w.made[e.VMID] = e.Who
		w.tally.Clones++
		return
	}
	if maker := w.made[e.VMID]; w.watched[e.Who] && maker != e.Who {
		w.note("%s did %s on container %d, which %s made", e.Who, e.Kind, e.VMID, orHost(maker))
	}
	if e.Kind == "destroy" {
		delete(w.made, e.VMID)
	}
}

func (w *World) makerOf(vmid int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.made[vmid]
}

// orHost names who made a container that nobody made through the API.
func orHost(maker string) string {
	if maker == "" {
		return "the host"
	}
	return maker
}

// watch looks at every request to Proxmox that changes something: even an
// attempt on somebody else's container breaks a promise.
func (w *World) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.judge(r)
		}
		next.ServeHTTP(rw, r)
	})
}

func (w *World) judge(r *http.Request) {
	node, vmid, verb, ok := target(r.URL.Path)
	who := caller(r)
	w.mu.Lock()
	watched := w.watched[who]
	w.mu.Unlock()
	if !ok || !watched {
		return
	}
	k, there := w.Proxmox.Container(vmid)
	if !there || w.makerOf(vmid) == who {
		return
	}
	w.follow() // it may be new
	w.mu.Lock()
	defer w.mu.Unlock()
	switch maker := w.made[vmid]; {
	case verb == "clone" && k.Template():
		if k.Lock == "disk" {
			w.tally.Collisions++ // Proxmox refuses it
		}
	case verb == "clone":
		w.note("%s asked for a clone of %d, which is not a template", who, vmid)
	case maker != who:
		w.note("%s asked for %s %s of container %d on %s, which %s made", who, r.Method, verb, vmid, node, orHost(maker))
	}
}

// target takes /api2/json/nodes/pve/lxc/20001/status/start apart.
func target(path string) (node string, vmid int, verb string, ok bool) {
	p := strings.Split(strings.Trim(path, "/"), "/")
	if len(p) < 6 || p[2] != "nodes" || p[4] != "lxc" {
		return "", 0, "", false
	}
	vmid, err := strconv.Atoi(p[5])
	return p[3], vmid, strings.Join(p[6:], "/"), err == nil
}

// caller is the token in "PVEAPIToken=user@realm!name=secret".
func caller(r *http.Request) string {
	rest, _ := strings.CutPrefix(r.Header.Get("Authorization"), "PVEAPIToken=")
	who, _, _ := strings.Cut(rest, "=")
	return who
}

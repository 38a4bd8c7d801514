package sim

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// Half describes the root half on a node of the world: a small root service
// that sees the insides of containers. It takes what is signed with Key only.
type Half struct {
	Node        string
	First, Last int
	Pool        string // resource pool
	Key         string
	Contract    string // that it speaks; empty: "2"
	User        string // the only one that it serves; empty: whoever asks
}

// Contract facts of the root half, written down again here on purpose.
const (
	halfHeader = "Dayfly-Contract"
	halfWatch  = 25 * time.Second
	halfInject = 20 * time.Second
	halfBody   = 128 << 10
)

// halfServer is a root half.
type halfServer struct {
	w *World
	c Half
}

// HalfAPI is a node's root half, with the world's faults on the way to it.
func (w *World) HalfAPI(c Half) http.Handler {
	if c.Contract == "" {
		c.Contract = "2"
	}
	h := &halfServer{w, c}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/hello", h.hello)
	mux.HandleFunc("GET /v1/watch", h.watch)
	mux.HandleFunc("POST /v1/containers/{vmid}/inject", h.on(h.inject))
	mux.HandleFunc("POST /v1/containers/{vmid}/repair", h.repair)
	mux.HandleFunc("GET /v1/containers/{vmid}/busy", h.on(h.busy))
	mux.HandleFunc("GET /v1/containers/{vmid}/stats", h.on(h.stats))
	mux.HandleFunc("GET /v1/containers/{vmid}/collect", h.on(h.collect))
	strict := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.halfDown(c.Node) || c.User != "" {
			stage.Hangup() // nobody here says who he is
		}
		rw.Header().Set(halfHeader, c.Contract)
		if r.Header.Get(halfHeader) != c.Contract {
			halfFail(rw, 400, "invalid", "another contract")
			return
		}
		mux.ServeHTTP(rw, r)
	})
	return stage.WithFaults(strict, w.Clock, w.decideHalf)
}

// HalfLine is the way to a node's root half: while it is stopped, nobody is there
// to connect to.
func (w *World) HalfLine(c Half) http.RoundTripper {
	return halfLine{w, c.Node, stage.Transport{Handler: w.HalfAPI(c)}}
}

type halfLine struct {
	w    *World
	node string
	to   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (l halfLine) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.w.halfDown(l.node) {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: syscall.ECONNREFUSED}
	}
	return l.to.RoundTrip(r)
}

// SetHalf stops or starts the root half of a node. Its answers under way are
// lost when it stops.
func (w *World) SetHalf(node string, up bool) {
	w.mu.Lock()
	w.halvesDown[node] = !up
	w.mu.Unlock()
	w.stirred()
}

func (w *World) halfDown(node string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.halvesDown[node]
}

// stirred wakes those who watch: a container started or ended.
func (w *World) stirred() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stirs++
	close(w.stir)
	w.stir = make(chan struct{})
}

// decideHalf is the fate of a request to a root half.
func (w *World) decideHalf(r *http.Request) stage.Fault {
	all := w.faults()
	if all.Half == (APIFaults{}) {
		return stage.Fault{}
	}
	return w.decide("half", r, all.Half, unavailable{
		before: stage.Fault{Code: 502, Reason: "Bad Gateway"}, after: stage.Fault{Code: 502, Reason: "Bad Gateway", Applied: true}, half: `{"boot":`,
	})
}

func halfFail(rw http.ResponseWriter, code int, kind, format string, args ...any) {
	rw.WriteHeader(code)
	_ = json.NewEncoder(rw).Encode(map[string]string{"error": fmt.Sprintf(format, args...), "kind": kind})
}

func halfOK(rw http.ResponseWriter, v any) { _ = json.NewEncoder(rw).Encode(v) }

func (h *halfServer) hello(rw http.ResponseWriter, _ *http.Request) {
	n, _ := strconv.Atoi(h.c.Contract)
	halfOK(rw, map[string]any{"contract": n, "version": "sim", "node": h.c.Node, "first": h.c.First, "last": h.c.Last, "cores": h.w.Proxmox.CPUs()})
}

// running lists the boots of the node's containers, by VMID.
func (h *halfServer) running() []map[string]any {
	list := []map[string]any{}
	for _, m := range h.w.guests.live {
		if m.run.Node == h.c.Node && m.run.VMID >= h.c.First && m.run.VMID <= h.c.Last {
			list = append(list, map[string]any{"vmid": m.run.VMID, "boot": m.bootID()})
		}
	}
	slices.SortFunc(list, func(a, b map[string]any) int { return a["vmid"].(int) - b["vmid"].(int) })
	return list
}

func (m *machine) bootID() string { return fmt.Sprintf("%d.%d", m.run.VMID, m.run.Boot) }

// watch answers when something starts or ends on the node.
func (h *halfServer) watch(rw http.ResponseWriter, r *http.Request) {
	timer := time.NewTimer(halfWatch)
	defer timer.Stop()
	for over := false; ; {
		h.w.mu.Lock()
		mark, list, stir := strconv.Itoa(h.w.stirs), h.running(), h.w.stir
		h.w.mu.Unlock()
		if h.w.halfDown(h.c.Node) {
			stage.Hangup()
		}
		if over || mark != r.URL.Query().Get("after") {
			halfOK(rw, map[string]any{"mark": mark, "running": list})
			return
		}
		select {
		case <-stir:
		case <-timer.C:
			over = true
		case <-r.Context().Done():
			return
		}
	}
}

// on admits a container of ours, as strictly as a real root half.
func (h *halfServer) on(f func(http.ResponseWriter, *http.Request, pve.Container)) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		k, ok := h.find(rw, r)
		switch {
		case !ok:
		case k.ResourcePool != h.c.Pool || k.Template():
			halfFail(rw, 403, "denied", "container %d is not in resource pool %s", k.VMID, h.c.Pool)
		case !h.signed(k):
			halfFail(rw, 403, "denied", "container %d has no manifest of ours", k.VMID)
		default:
			f(rw, r, k)
		}
	}
}

func (h *halfServer) find(rw http.ResponseWriter, r *http.Request) (pve.Container, bool) {
	id, err := strconv.Atoi(r.PathValue("vmid"))
	if err != nil || id < h.c.First || id > h.c.Last {
		halfFail(rw, 403, "denied", "VMID %q is not in the range", r.PathValue("vmid"))
		return pve.Container{}, false
	}
	k, there := h.w.Proxmox.Container(id)
	if !there || k.Node != h.c.Node {
		halfFail(rw, 404, "not found", "container %d is not on this node", id)
		return k, false
	}
	return k, true
}

var manifestLines = regexp.MustCompile(`(?m)^dayfly-runner:(\{.*\})\ndayfly-signature:(\S+)$`)

// signed checks a manifest as anybody with the key can.
func (h *halfServer) signed(k pve.Container) bool {
	m := manifestLines.FindStringSubmatch(k.Config["description"])
	if m == nil {
		return false
	}
	mac := hmac.New(sha256.New, []byte(h.c.Key))
	mac.Write([]byte("dayfly manifest\n" + m[1]))
	var said struct {
		VMID int
		Name string
	}
	return m[2] == base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) && json.Unmarshal([]byte(m[1]), &said) == nil &&
		said.VMID == k.VMID && said.Name == k.Config["hostname"]
}

// read reads a body strictly.
func read(rw http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(io.LimitReader(r.Body, halfBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		halfFail(rw, 400, "invalid", "body: %v", err)
		return false
	}
	return true
}

var jitText = regexp.MustCompile(`^[A-Za-z0-9+/=_-]+$`)

// variable is what the guest reads as it was meant.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=[ !#%-\[\]^_a-~]+$`)

// inject waits until the guest waits for a config, and gives it one.
func (h *halfServer) inject(rw http.ResponseWriter, r *http.Request, k pve.Container) {
	var in struct {
		Name  string            `json:"name"`
		JIT   string            `json:"jit"`
		Facts map[string]string `json:"facts"`
		Env   map[string]string `json:"env"`
	}
	if !read(rw, r, &in) {
		return
	}
	if in.Name != k.Config["hostname"] {
		halfFail(rw, 403, "denied", "container %d is not %s", k.VMID, in.Name)
		return
	}
	if !jitText.MatchString(in.JIT) {
		halfFail(rw, 400, "invalid", "the JIT config is not base64")
		return
	}
	for name, value := range in.Env {
		if !variable.MatchString(name + "=" + value) {
			halfFail(rw, 400, "invalid", "variable %q", name)
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), halfInject)
	defer cancel()
	for {
		got := h.w.give(k.VMID, in.JIT, in.Env)
		switch {
		case got.boot != "":
			halfOK(rw, map[string]string{"boot": got.boot})
			return
		case got.full:
			halfFail(rw, 503, "unready", "container %d has no space for a JIT config on /run: no space left on device", k.VMID)
			return
		case got.had:
			halfFail(rw, 409, "exists", "container %d has, or had, a JIT config", k.VMID)
			return
		case ctx.Err() != nil || h.w.halfDown(h.c.Node):
			halfFail(rw, 503, "unready", "container %d: after %s: it is not far enough", k.VMID, halfInject)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// gift is what became of a config that was handed to a container.
type gift struct {
	boot string // that has it now
	had  bool   // it has had one before
	full bool   // there is no room for one
}

// give hands a config to a container that waits for one.
func (w *World) give(vmid int, config string, env map[string]string) gift {
	done := make(chan gift, 1)
	w.agenda.After(0, func() {
		w.mu.Lock()
		m := w.guests.live[vmid]
		w.mu.Unlock()
		switch {
		case m == nil:
			done <- gift{}
		case !m.waiting:
			done <- gift{had: m.taken}
		case m.ail == NoSpace:
			done <- gift{full: true}
		default:
			m.launch(config, env)
			done <- gift{boot: m.bootID()}
		}
	})
	return <-done
}

// alive finds the machine of a container that runs, for those who look on.
func (h *halfServer) alive(rw http.ResponseWriter, vmid int) *machine {
	m := h.w.guests.live[vmid]
	if m == nil {
		halfFail(rw, 404, "not found", "container %d does not run", vmid)
	}
	return m
}

func (h *halfServer) busy(rw http.ResponseWriter, _ *http.Request, k pve.Container) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if m := h.alive(rw, k.VMID); m != nil {
		works := m.job != 0
		halfOK(rw, map[string]any{"boot": m.bootID(), "worker": works, "taken": m.taken, "started": works, "completed": false})
	}
}

func (h *halfServer) stats(rw http.ResponseWriter, _ *http.Request, k pve.Container) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if m := h.alive(rw, k.VMID); m != nil {
		halfOK(rw, map[string]any{"memory": 100 << 20, "cpu": int64(time.Second), "processes": 9})
	}
}

// collect gives what the boot that runs, or the last one, has left.
func (h *halfServer) collect(rw http.ResponseWriter, _ *http.Request, k pve.Container) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	m, over := h.w.guests.live[k.VMID], false
	if m == nil {
		m, over = h.w.guests.past[k.VMID], true
	}
	if m == nil || m.run.Hostname != k.Config["hostname"] {
		halfFail(rw, 404, "not found", "nothing is left of container %d", k.VMID)
		return
	}
	exit := ""
	if over && m.leaving {
		exit = "exited 0: its work was over"
		if m.refused {
			exit = "exited 7: GitHub serves this runner version no longer: bake a new template"
		}
	}
	halfOK(rw, map[string]any{
		"vmid": k.VMID, "name": m.run.Hostname, "boot": m.bootID(), "over": over, "exit": exit, "stats": map[string]any{"memory": 100 << 20},
		"files":  []map[string]any{{"path": "/opt/actions-runner/_diag/Runner_1.log", "size": 3, "data": []byte("log")}},
		"missed": []string{},
	})
}

// repair unlocks and removes what a task that is gone has left.
func (h *halfServer) repair(rw http.ResponseWriter, r *http.Request) {
	var in struct{ Do, Name string }
	k, ok := h.find(rw, r)
	if !ok || !read(rw, r, &in) {
		return
	}
	shell := k.Lock == "destroyed" && k.Config["hostname"] == ""
	atWork := slices.ContainsFunc(h.w.Proxmox.Tasks(h.c.Node), func(upid string) bool {
		f := strings.Split(upid, ":")
		return len(f) > 6 && (f[5] == "vzclone" || f[6] == strconv.Itoa(k.VMID))
	})
	switch {
	case in.Do != "unlock" && in.Do != "remove":
		halfFail(rw, 400, "invalid", "do %q", in.Do)
	case k.Template() || !shell && (!h.signed(k) || in.Name != k.Config["hostname"]):
		halfFail(rw, 403, "denied", "container %d is not ours", k.VMID)
	case k.Lock == "" && k.ResourcePool != h.c.Pool:
		halfFail(rw, 403, "denied", "container %d is not in resource pool %s", k.VMID, h.c.Pool)
	case k.Running:
		halfFail(rw, 423, "busy", "container %d runs", k.VMID)
	case atWork:
		halfFail(rw, 423, "busy", "a task may work on container %d", k.VMID)
	default:
		h.w.Proxmox.Unlock(k.VMID)
		if in.Do == "remove" {
			h.w.Proxmox.Remove(k.VMID)
		}
		halfOK(rw, struct{}{})
	}
}

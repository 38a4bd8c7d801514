package pve

import (
	"fmt"
	"strconv"
	"time"
)

// vmRow is a container as /nodes/N/lxc and status/current show it.
type vmRow struct {
	VMID      int     `json:"vmid"`
	Name      string  `json:"name"`
	Status    string  `json:"status"`
	Type      string  `json:"type"`
	Template  int     `json:"template,omitempty"`
	Lock      string  `json:"lock,omitempty"`
	Tags      string  `json:"tags,omitempty"`
	CPU       float64 `json:"cpu"`
	CPUs      float64 `json:"cpus"`
	Mem       int64   `json:"mem"`
	MaxMem    int64   `json:"maxmem"`
	Swap      int64   `json:"swap"`
	MaxSwap   int64   `json:"maxswap"`
	Disk      int64   `json:"disk"`
	MaxDisk   int64   `json:"maxdisk"`
	DiskRead  int64   `json:"diskread"`
	DiskWrite int64   `json:"diskwrite"`
	NetIn     int64   `json:"netin"`
	NetOut    int64   `json:"netout"`
	Uptime    int64   `json:"uptime"`
	PID       int     `json:"pid,omitempty"`
	*pressure
	HA *haState `json:"ha,omitempty"`
}

type haState struct {
	Managed int `json:"managed"`
}

// pressure are the stall figures of a running container, since release 9.
type pressure struct {
	CPUFull    string `json:"pressurecpufull"`
	CPUSome    string `json:"pressurecpusome"`
	IOFull     string `json:"pressureiofull"`
	IOSome     string `json:"pressureiosome"`
	MemoryFull string `json:"pressurememoryfull"`
	MemorySome string `json:"pressurememorysome"`
}

var calm = pressure{"0.00", "0.00", "0.00", "0.00", "0.00", "0.00"}

// row is the live status of a container.
func (c *Cluster) row(t *ct) vmRow {
	f := t.facts()
	v := vmRow{VMID: t.vmid, Name: f.name, Status: c.status(t), Type: "lxc", Lock: t.lock(), Tags: f.tags, Template: f.template,
		CPUs: f.cpus, MaxMem: f.maxmem, MaxSwap: f.maxswap, MaxDisk: f.maxdisk}
	if t.booted && !t.dying {
		v.Uptime, v.PID = c.uptime(t), t.pid
		v.Mem, v.Disk, v.CPU = 24<<20, 207<<20, 0.01
		if c.since("9") {
			v.pressure = &calm
		}
	}
	return v
}

// listContainers is the live list of one node; it is complete at once, but
// waits for every container that is just starting.
func listContainers(r *call) (any, error) {
	for _, t := range r.c.sorted() {
		if t.node == r.node.name {
			r.untilBooted(t)
		}
	}
	out := []vmRow{}
	audit := privBits["VM.Audit"]
	for _, t := range r.c.sorted() {
		if t.node == r.node.name && r.c.may(r.who, vmPath(t.vmid), audit, false) {
			out = append(out, r.c.row(t))
		}
	}
	return out, nil
}

func statusCurrent(r *call) (any, error) {
	t, err := r.container()
	if err != nil {
		return nil, err
	}
	r.untilBooted(t)
	if t, err = r.container(); err != nil {
		return nil, err
	}
	row := r.c.row(t)
	row.HA = &haState{}
	return row, nil
}

func containerIndex(r *call) (any, error) {
	if _, err := r.container(); err != nil {
		return nil, err
	}
	return subdirs("config", "pending", "status", "vncproxy", "termproxy", "vncwebsocket", "spiceproxy", "migrate", "clone",
		"rrd", "rrddata", "firewall", "snapshot", "resize", "interfaces"), nil
}

func statusIndex(r *call) (any, error) {
	if _, err := r.container(); err != nil {
		return nil, err
	}
	return subdirs("current", "start", "stop", "shutdown", "reboot"), nil
}

// dirty makes pvestatd report at the end of its round, or at once when the
// cluster has no lag.
func (c *Cluster) dirty() {
	if c.timing.StatusLag <= 0 || c.statted {
		return
	}
	c.statted = true
	d := c.timing.StatusLag - c.clock.Now().Sub(c.born)%c.timing.StatusLag
	c.after(d, func() {
		c.statted = false
		for _, t := range c.cts {
			t.stat = c.stat(t)
		}
	})
}

func (c *Cluster) stat(t *ct) *vmStat {
	return &vmStat{status: c.status(t), uptime: c.uptime(t), facts: *t.facts()}
}

// resource is a container in /cluster/resources and among the members of a
// resource pool.
type resource struct {
	ID     string `json:"id"`
	VMID   int    `json:"vmid"`
	Node   string `json:"node"`
	Type   string `json:"type"`
	Status string `json:"status"`
	Pool   string `json:"pool,omitempty"`
	Lock   string `json:"lock,omitempty"`
	Tags   string `json:"tags,omitempty"`
	*reported
}

// reported is what comes from pvestatd.
type reported struct {
	Name      string  `json:"name"`
	Template  int     `json:"template"`
	Uptime    int64   `json:"uptime"`
	MaxCPU    float64 `json:"maxcpu"`
	MaxMem    int64   `json:"maxmem"`
	MaxDisk   int64   `json:"maxdisk"`
	CPU       float64 `json:"cpu"`
	Mem       int64   `json:"mem"`
	Disk      int64   `json:"disk"`
	DiskRead  int64   `json:"diskread"`
	DiskWrite int64   `json:"diskwrite"`
	MemHost   int64   `json:"memhost"`
	NetIn     int64   `json:"netin"`
	NetOut    int64   `json:"netout"`
}

// resourceRow is a container in /cluster/resources: what pmxcfs knows is
// live, what pvestatd reports is as old as its round, and a container it has
// not seen is "unknown" and has no name.
func (c *Cluster) resourceRow(t *ct, pool string) resource {
	e := resource{ID: "lxc/" + strconv.Itoa(t.vmid), VMID: t.vmid, Node: t.node, Type: "lxc", Status: "unknown", Pool: pool,
		Lock: t.lock(), Tags: t.facts().tags}
	s := t.stat
	if c.timing.StatusLag <= 0 {
		s = c.stat(t)
	}
	if s == nil || !c.nodes[t.node].up {
		return e
	}
	e.Status = s.status
	e.reported = &reported{Name: s.name, Template: s.template, Uptime: s.uptime, MaxCPU: s.cpus, MaxMem: s.maxmem, MaxDisk: s.maxdisk}
	if s.status == "running" {
		e.Mem, e.Disk, e.CPU = 24<<20, 207<<20, 0.01
	}
	return e
}

// resources lists what the caller may see.
func resources(r *call) (any, error) {
	c, kind := r.c, r.str("type")
	out := []any{}
	if kind == "" {
		for _, p := range sortedKeys(c.pools) {
			if c.may(r.who, "/pool/"+p, privBits["Pool.Audit"], false) {
				out = append(out, map[string]any{"id": "/pool/" + p, "pool": p, "type": "pool"})
			}
		}
	}
	if kind == "" || kind == "vm" {
		for _, t := range c.sorted() {
			if !c.may(r.who, vmPath(t.vmid), privBits["VM.Audit"], false) {
				continue
			}
			pool := c.member[t.vmid]
			if pool != "" && !c.may(r.who, "/pool/"+pool, privBits["Pool.Audit"], false) {
				pool = ""
			}
			out = append(out, c.resourceRow(t, pool))
		}
	}
	if kind == "" || kind == "node" {
		for _, n := range c.names {
			out = append(out, r.nodeResource(c.nodes[n]))
		}
	}
	if kind == "" || kind == "storage" {
		for _, e := range r.storageResources() {
			out = append(out, e)
		}
	}
	if kind == "" || kind == "sdn" {
		for _, n := range c.names {
			if c.may(r.who, "/sdn/zones/localnetwork", privSet("SDN.Audit SDN.Allocate"), true) {
				out = append(out, map[string]any{"id": "sdn/" + n + "/localnetwork", "node": n, "sdn": "localnetwork", "status": "ok", "type": "sdn"})
			}
		}
	}
	return out, nil
}

func (r *call) nodeResource(n *node) map[string]any {
	e := map[string]any{"id": "node/" + n.name, "node": n.name, "type": "node", "level": "", "cgroup-mode": 2, "status": "online"}
	if !n.up {
		e["status"] = "offline"
	} else if r.c.may(r.who, "/nodes/"+n.name, privBits["Sys.Audit"], false) {
		for k, v := range r.c.nodeFigures(n) {
			e[k] = v
		}
	}
	return e
}

// CPUs is how many every node has.
func (c *Cluster) CPUs() int { return c.cpus }

// nodeFigures are the measured values of a node, which has 16 GiB.
func (c *Cluster) nodeFigures(n *node) map[string]any {
	return map[string]any{"cpu": 0.05, "maxcpu": c.cpus, "mem": 2 << 30, "maxmem": 16 << 30, "disk": 3 << 30, "maxdisk": 64 << 30,
		"uptime": int64(c.clock.Now().Sub(n.boot) / time.Second)}
}

func (r *call) storageResources() []map[string]any {
	var out []map[string]any
	for _, n := range r.c.names {
		for _, s := range r.c.sortedStores() {
			if !s.on(n) || !r.maySeeStorage(s) {
				continue
			}
			out = append(out, r.c.storageResource(n, s))
		}
	}
	return out
}

func (c *Cluster) storageResource(n string, s *store) map[string]any {
	status := "available"
	if !c.nodes[n].up {
		status = "unknown"
	}
	return map[string]any{"id": "storage/" + n + "/" + s.ID, "node": n, "storage": s.ID, "type": "storage", "plugintype": s.Type,
		"content": contentList(s.Content), "status": status, "disk": s.used(), "maxdisk": s.Size, "shared": bit(s.Shared)}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// nextID is the lowest free VMID, or the check of one.
func nextID(r *call) (any, error) {
	if v := r.str("vmid"); v != "" {
		if r.c.cts[atoi(v)] != nil {
			return nil, badParam("vmid", "VM "+v+" already exists")
		}
		return v, nil
	}
	lower, upper := 100, 1000000
	rng := parseMount(r.c.options["next-id"])
	if v := rng["lower"]; v != "" {
		lower = atoi(v)
	}
	if v := rng["upper"]; v != "" {
		upper = atoi(v)
	}
	for id := lower; id < upper; id++ {
		if r.c.cts[id] == nil {
			return strconv.Itoa(id), nil
		}
	}
	return nil, die(fmt.Sprintf("unable to get any free VMID in range [%d, %d]", lower, upper))
}

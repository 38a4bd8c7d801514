package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// room keeps the books of every limit during a pass.
type room struct {
	limits  Limits
	online  map[string]bool
	total   int
	node    map[string]int
	pool    map[string]int
	share   map[[2]string]int // pool, node
	tasks   map[string]int    // by node
	stores  map[[2]string]int // node, storage
	cloning map[VMID]bool     // replicas that are being cloned
}

func newRoom(limits Limits, have Observed) room {
	m := room{
		limits: limits, online: make(map[string]bool, len(have.Nodes)), node: map[string]int{}, pool: map[string]int{},
		share: map[[2]string]int{}, tasks: map[string]int{}, stores: map[[2]string]int{}, cloning: map[VMID]bool{},
	}
	for _, n := range have.Nodes {
		m.online[n.Name] = n.Online
	}
	for i := range have.Runners {
		r := &have.Runners[i]
		if r.Counts() {
			m.add(r.Pool, r.Node)
		}
		if r.Pending == Clone {
			m.cloning[r.Source] = true
		}
		if r.Pending == Clone || r.Pending == Launch || r.Pending == Destroy {
			m.tasks[r.Node]++
		}
		if r.Pending == Clone || r.Pending == Destroy {
			m.stores[[2]string{r.Node, r.Storage}]++
		}
	}
	return m
}

func (m *room) add(pool, node string) {
	m.total++
	m.node[node]++
	m.pool[pool]++
	m.share[[2]string{pool, node}]++
}

// start books a task that uses no storage lock, if the node may have one more.
func (m *room) start(node string) bool {
	if m.limits.NodeTasks > 0 && m.tasks[node] >= m.limits.NodeTasks {
		return false
	}
	m.tasks[node]++
	return true
}

// task books a task that holds the lock of a storage.
func (m *room) task(node, storage string) bool {
	key := [2]string{node, storage}
	if m.limits.StoreTasks > 0 && m.stores[key] >= m.limits.StoreTasks || !m.start(node) {
		return false
	}
	m.stores[key]++
	return true
}

// replicas resolves a pool's template to one version and lists its replicas on
// the nodes that the pool may use.
func (m *room) replicas(q Pool, all []Template) (Ref, []Template) {
	ref := q.Template
	var found []Template
	for _, t := range all {
		if t.Family != ref.Family || len(q.Nodes) > 0 && !slices.Contains(q.Nodes, t.Node) {
			continue
		}
		if q.Template.Version == "" && (ref.Version == "" || Newer(t.Version, ref.Version)) {
			ref.Version, found = t.Version, nil
		}
		if t.Version == ref.Version {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b Template) int { return cmp.Compare(a.VMID, b.VMID) })
	return ref, found
}

// clone books a clone for a pool, or says what forbids it.
func (p *pass) clone(q *pool, reason func() string) (bool, string) {
	t, why := p.pick(q)
	if why != "" {
		return false, why
	}
	p.room.cloning[t.VMID] = true
	p.room.add(q.Name, t.Node)
	p.do(Action{Kind: Clone, Pool: q.Name, Template: t.VMID, Node: t.Node, Reason: reason()})
	return true, ""
}

// pick chooses the replica to clone: on the node with the fewest containers.
func (p *pass) pick(q *pool) (Template, string) {
	m := &p.room
	switch {
	case len(q.replicas) == 0:
		return Template{}, fmt.Sprintf("pool %s: no template %s on its nodes", q.Name, q.Template)
	case m.pool[q.Name] >= q.Max:
		return Template{}, fmt.Sprintf("pool %s is full: %d of %d", q.Name, m.pool[q.Name], q.Max)
	case m.limits.Max > 0 && m.total >= m.limits.Max:
		return Template{}, fmt.Sprintf("all pools together are full: %d of %d", m.total, m.limits.Max)
	}
	var best *Template
	why := ""
	for i := range q.replicas {
		t := &q.replicas[i]
		if best != nil && m.node[best.Node] <= m.node[t.Node] {
			continue
		}
		if reason := p.refuses(q, t); reason != "" {
			why = cmp.Or(why, reason)
			continue
		}
		best = t
	}
	if best == nil {
		return Template{}, why
	}
	m.task(best.Node, best.Storage)
	return *best, ""
}

// refuses says why a replica cannot be cloned now.
func (p *pass) refuses(q *pool, t *Template) string {
	m := &p.room
	switch {
	case !m.online[t.Node]:
		return fmt.Sprintf("node %s is offline", t.Node)
	case m.limits.PerNode > 0 && m.node[t.Node] >= m.limits.PerNode:
		return fmt.Sprintf("node %s is full: %d of %d", t.Node, m.node[t.Node], m.limits.PerNode)
	case q.PerNode > 0 && m.share[[2]string{q.Name, t.Node}] >= q.PerNode:
		return fmt.Sprintf("pool %s is full on node %s: %d", q.Name, t.Node, q.PerNode)
	case t.Locked || m.cloning[t.VMID]:
		// Proxmox locks the source for as long as the clone's task runs.
		return fmt.Sprintf("template %s on %s is being cloned, one clone at a time", t.Ref, t.Node)
	case m.limits.NodeTasks > 0 && m.tasks[t.Node] >= m.limits.NodeTasks:
		return fmt.Sprintf("node %s has as many tasks at work as it may", t.Node)
	case m.limits.StoreTasks > 0 && m.stores[[2]string{t.Node, t.Storage}] >= m.limits.StoreTasks:
		return fmt.Sprintf("storage %s of %s has as many tasks at work as it may", t.Storage, t.Node)
	}
	if h, yes := p.held(Clone, q.Name, t.Node, q.Scope); yes {
		return fmt.Sprintf("pool %s clones nothing on %s until %s: %s", q.Name, t.Node, clock(h.Until), h.Reason)
	}
	return ""
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05Z") }

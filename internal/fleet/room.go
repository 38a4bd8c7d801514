package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// spot is a pool on a node, or a storage on a node.
type spot struct{ node, of string }

// books count the containers that take a place.
type books struct {
	total int
	node  map[string]int
	pool  map[string]int
	share map[spot]int   // of a pool on a node
	disk  map[*stock]int // MiB that containers have taken or will take
}

func (b *books) add(pool, node string, n int) {
	b.total += n
	b.node[node] += n
	b.pool[pool] += n
	b.share[spot{node, pool}] += n
}

func (b *books) copy() books {
	return books{b.total, maps.Clone(b.node), maps.Clone(b.pool), maps.Clone(b.share), maps.Clone(b.disk)}
}

// room keeps the books of every limit during a pass.
type room struct {
	limits  Limits
	online  map[string]bool
	hosts   map[string]bool        // nodes whose root half answers
	lone    map[string]bool        // nodes whose root half may be one that is away
	away    map[string]*time.Time  // since when it does not
	now     books                  // what takes a place
	soon    books                  // the same once what is leaving has left and what jobs wait for has come
	tasks   map[string]int         // by node
	stores  map[spot]int           // by storage
	cloning map[VMID]bool          // replicas that are being cloned
	left    map[*Runner]bool       // booked as leaving
	frail   map[string]bool        // nodes that are tried with one task
	down    map[string]bool        // nodes that the cluster does not see
	space   map[string]*space      // of the nodes that tell what they have
	weighed int                    // nodes that tell how much memory they have
	young   map[string][]time.Time // when runners that do not listen yet were launched, by node
	stocks  map[spot]*stock        // storages that tell how much is free
	full    map[VMID]int           // MiB of the templates whose clones take them at once
	disks   map[string]int         // MiB that pools give their containers; 0: as in the template
}

func newRoom(want Desired, have Observed) room {
	m := room{
		limits: want.Limits, online: make(map[string]bool, len(have.Nodes)), hosts: map[string]bool{}, lone: map[string]bool{}, frail: map[string]bool{}, down: map[string]bool{}, away: map[string]*time.Time{},
		now:   books{node: map[string]int{}, pool: map[string]int{}, share: map[spot]int{}, disk: map[*stock]int{}},
		tasks: map[string]int{}, stores: map[spot]int{}, cloning: map[VMID]bool{}, left: map[*Runner]bool{},
	}
	for _, n := range have.Nodes {
		m.online[n.Name] = n.Online
		m.hosts[n.Name] = n.Host
		m.lone[n.Name] = n.Lone
		m.down[n.Name] = n.Down
		if n.Frail {
			m.frail[n.Name] = true
		}
		if n.Total != (Room{}) {
			m.measure(n)
		}
		if !n.Host && !n.Away.IsZero() {
			m.away[n.Name] = &n.Away
		}
	}
	m.stock(want, have)
	for i := range have.Runners {
		r := &have.Runners[i]
		m.takes(r)
		if r.Counts() && !m.lost(r) {
			m.now.add(r.Pool, r.Node, 1)
		}
		if r.Pending == Clone {
			m.cloning[r.Source] = true
		}
		if r.Pending == Clone || r.Pending == Launch && r.Booted.IsZero() || r.Pending == Smoke || r.Pending == Boot || r.Pending == Destroy {
			m.tasks[r.Node]++
		}
		if r.Pending == Clone || r.Pending == Destroy {
			m.stores[spot{r.Node, r.Storage}]++
		}
	}
	m.soon = m.now.copy()
	return m
}

// lost reports whether a container went with its node: no job can be on it,
// and none will get it before the node is back. Its place is another's until
// then.
func (m *room) lost(r *Runner) bool {
	phase := r.Phase()
	return r.Container == Unseen && m.down[r.Node] && r.Pending == None && (phase < Launching || phase > Busy)
}

// leaves books that a container is about to go, if its node lets it.
func (m *room) leaves(r *Runner) {
	if r.Counts() && r.Container != Unseen && m.online[r.Node] && !m.left[r] {
		m.left[r] = true
		m.soon.add(r.Pool, r.Node, -1)
		m.fill(&m.soon, r.Node, r.Storage, -m.clone(r.Pool, r.Source))
	}
}

// stays takes back what leaves booked.
func (m *room) stays(r *Runner) {
	delete(m.left, r)
	m.soon.add(r.Pool, r.Node, 1)
	m.fill(&m.soon, r.Node, r.Storage, m.clone(r.Pool, r.Source))
}

// busy reports whether a node has as many tasks at work as it may.
func (m *room) busy(node string) bool {
	return m.limits.NodeTasks > 0 && m.tasks[node] >= m.limits.NodeTasks || m.frail[node] && m.tasks[node] > 0
}

// start books a task that uses no storage lock, if the node may have one more.
func (m *room) start(node string) bool {
	if m.busy(node) {
		return false
	}
	m.tasks[node]++
	return true
}

// task books a task that holds the lock of a storage.
func (m *room) task(node, storage string) bool {
	key := spot{node, storage}
	if m.limits.StoreTasks > 0 && m.stores[key] >= m.limits.StoreTasks || !m.start(node) {
		return false
	}
	m.stores[key]++
	return true
}

// replicas resolves a pool's template to one version and lists its replicas on
// the nodes that the pool may use. The newest version is the newest one on a
// node that is online, if there is any.
func (m *room) replicas(q *Pool, all []Template) (Ref, []Template) {
	ref := q.Template
	if ref.Version == "" {
		ref.Version = m.newest(q, all)
	}
	return ref, m.of(q, ref, all)
}

func byReplica(a, b Template) int {
	return cmp.Or(cmp.Compare(a.VMID, b.VMID), cmp.Compare(a.Node, b.Node))
}

func (m *room) newest(q *Pool, all []Template) string {
	there, online := "", ""
	for i := range all {
		t := &all[i]
		if t.Family != q.Template.Family || !q.mayUse(t.Node) {
			continue
		}
		if there == "" || Newer(t.Version, there) {
			there = t.Version
		}
		if m.online[t.Node] && (online == "" || Newer(t.Version, online)) {
			online = t.Version
		}
	}
	return cmp.Or(online, there)
}

// clone books a clone of a replica that pick chose.
func (p *pass) clone(q *pool, t Template, reason string) {
	m := &p.room
	q.replacing = true
	m.cloning[t.VMID] = true
	m.task(t.Node, t.Storage)
	m.now.add(q.Name, t.Node, 1)
	m.soon.add(q.Name, t.Node, 1)
	m.fill(&m.now, t.Node, t.Storage, m.clone(q.Name, t.VMID))
	m.fill(&m.soon, t.Node, t.Storage, m.clone(q.Name, t.VMID))
	p.do(Action{Kind: Clone, Pool: q.Name, Template: t.VMID, Node: t.Node, Reason: reason})
}

// pick chooses the replica to clone, on the node with most room left (or least,
// for a pool that packs), or says what forbids all of them. What is forbidden once stays so for the
// pass.
func (p *pass) pick(q *pool) (Template, string) {
	if q.full != "" {
		return Template{}, q.full
	}
	if len(q.replicas) == 0 {
		q.full = p.room.bare(q)
	}
	var best *Template
	for i := range q.replicas {
		t := &q.replicas[i]
		if best != nil && p.crowd(q, best.Node) <= p.crowd(q, t.Node) {
			continue
		}
		if why := p.refuses(q, t); why == nil {
			best = t
		} else if best == nil && q.full == "" {
			q.full = why()
		}
	}
	if best == nil {
		return Template{}, q.full
	}
	q.full = ""
	return *best, ""
}

// bare says why a pool has no replica to clone. What is on a node is known once
// it was listed, and Observed has no other nodes.
func (m *room) bare(q *pool) string {
	listed := func(name string) bool { _, ok := m.online[name]; return ok }
	switch {
	case len(m.online) == 0:
		return fmt.Sprintf("pool %s: no node has been listed yet", q.Name)
	case len(q.Nodes) > 0 && !slices.ContainsFunc(q.Nodes, listed):
		return fmt.Sprintf("pool %s: none of its nodes has been listed yet: %s", q.Name, strings.Join(q.Nodes, ", "))
	}
	return fmt.Sprintf("pool %s: no template %s on its nodes", q.Name, cmp.Or(q.asked(), q.Template))
}

// crowd is how far from a node the next container of a pool is put.
func (p *pass) crowd(q *pool, node string) int {
	n := p.room.load(node)
	if q.Pack {
		n = -n
	}
	if node == q.avoid && node != "" {
		n += 1 << 20
	}
	return n
}

// reason is a sentence that is put together only when somebody reads it.
type reason func() string

// refuses says why a replica cannot be cloned now; nil: it can.
func (p *pass) refuses(q *pool, t *Template) reason {
	if why := p.room.lacks(&p.room.now, q, t); why != nil {
		return why
	}
	if why := p.bars(q, t); why != nil {
		return why
	}
	return p.room.hinders(t)
}

// lacks says which limit on containers leaves no place for one more of t.
func (m *room) lacks(b *books, q *pool, t *Template) reason {
	switch n := t.Node; {
	case b.pool[q.Name] >= q.Max:
		return func() string { return fmt.Sprintf("pool %s is full: %d of %d", q.Name, b.pool[q.Name], q.Max) }
	case q.PerNode > 0 && b.share[spot{n, q.Name}] >= q.PerNode:
		return func() string { return fmt.Sprintf("pool %s is full on node %s: %d", q.Name, n, q.PerNode) }
	case m.limits.Max > 0 && b.total >= m.limits.Max:
		return func() string { return fmt.Sprintf("all pools together are full: %d of %d", b.total, m.limits.Max) }
	case m.limits.PerNode > 0 && b.node[n] >= m.limits.PerNode:
		return func() string { return fmt.Sprintf("node %s is full: %d of %d", n, b.node[n], m.limits.PerNode) }
	}
	if why := m.cramped(b, q, t.Node); why != nil {
		return why
	}
	return m.short(b, q, t)
}

// bars says what forbids a clone of t for longer than a task takes. On a node
// that nothing is launched on, one clone after the other would be made in vain.
func (p *pass) bars(q *pool, t *Template) reason {
	if !p.room.online[t.Node] {
		return func() string { return fmt.Sprintf("node %s is offline", t.Node) }
	}
	if h := p.hold(Clone, q, t.Node); h != nil {
		return func() string {
			return fmt.Sprintf("pool %s clones nothing on %s until %s: %s", q.Name, t.Node, h.until(), h.Reason)
		}
	}
	if h := p.hold(Launch, q, t.Node); h != nil && h.Node != "" {
		return func() string { return h.launches(q) }
	}
	return nil
}

// hinders says which task has to end before t can be cloned.
func (m *room) hinders(t *Template) reason {
	switch {
	case t.Locked || m.cloning[t.VMID]:
		// Proxmox locks the source for as long as the clone's task runs.
		return func() string {
			return fmt.Sprintf("template %s on %s is being cloned, one clone at a time", t.Ref, t.Node)
		}
	case m.busy(t.Node):
		return func() string { return fmt.Sprintf("node %s has as many tasks at work as it may", t.Node) }
	case m.limits.StoreTasks > 0 && m.stores[spot{t.Node, t.Storage}] >= m.limits.StoreTasks:
		return func() string {
			return fmt.Sprintf("storage %s of %s has as many tasks at work as it may", t.Storage, t.Node)
		}
	}
	return nil
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05Z") }

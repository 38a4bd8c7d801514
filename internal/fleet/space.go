package fleet

import (
	"fmt"
	"time"
)

// space is the memory and cores of a node. What containers may use is promised
// to them, whether they use it yet or not; what others use is only seen.
type space struct {
	total, used Room
	sizes       map[string]Size // of the pools' containers
}

// measure notes what a node has.
func (m *room) measure(n Node) {
	if m.space == nil {
		m.space = map[string]*space{}
	}
	if n.Total.MemoryMiB > 0 {
		m.weighed++
	}
	m.space[n.Name] = &space{total: n.Total, used: n.Used}
}

// sized tells the nodes that are measured how large the pools' containers are.
func (m *room) sized(pools []*pool) {
	if len(m.space) == 0 {
		return
	}
	sizes := make(map[string]Size, len(pools))
	for _, q := range pools {
		sizes[q.Name] = q.Size
	}
	for _, s := range m.space {
		s.sizes = sizes
	}
}

// promised is what the containers that b counts on a node may use.
func (m *room) promised(b *books, node string, s *space) Room {
	var sum Room
	for name, size := range s.sizes {
		n := b.share[spot{node, name}]
		sum.MemoryMiB += n * size.MemoryMiB
		sum.Cores += n * size.Cores
	}
	return sum
}

// cramped says what a node has not enough of for one more of a pool's
// containers. A pool without sizes, and a node that does not tell, have room.
func (m *room) cramped(b *books, q *pool, node string) reason {
	s := m.space[node]
	if s == nil {
		return nil
	}
	p := m.promised(b, node, s)
	memory := p.MemoryMiB + q.Size.MemoryMiB + q.Reserve.MemoryMiB
	cores := p.Cores + q.Size.Cores + q.Reserve.Cores
	switch {
	case s.total.MemoryMiB > 0 && q.Size.MemoryMiB+q.Reserve.MemoryMiB > 0 && memory > s.total.MemoryMiB:
		return func() string {
			return fmt.Sprintf("node %s has no memory for one more: %d of %d MiB are promised", node, p.MemoryMiB, s.total.MemoryMiB)
		}
	case s.total.Cores > 0 && q.Reserve.Cores > 0 && cores > s.total.Cores:
		// Cores are shared: without a reserve they may be promised twice.
		return func() string {
			return fmt.Sprintf("node %s has no cores for one more: %d of %d are promised", node, p.Cores, s.total.Cores)
		}
	case s.used.MemoryMiB > 0 && q.Reserve.MemoryMiB > 0 && s.used.MemoryMiB+q.Reserve.MemoryMiB > s.total.MemoryMiB:
		return func() string {
			return fmt.Sprintf("node %s uses %d of %d MiB of memory: what pool %s reserves is not free", node, s.used.MemoryMiB, s.total.MemoryMiB, q.Name)
		}
	}
	return nil
}

// load is how full a node is: by the memory that is promised where every node
// tells what it has and pools say what they use, else by containers.
func (m *room) load(node string) int {
	s := m.space[node]
	if s == nil || s.total.MemoryMiB == 0 || m.weighed < len(m.online) {
		return m.now.node[node]
	}
	p := m.promised(&m.now, node, s)
	return 1000*p.MemoryMiB/s.total.MemoryMiB + m.now.node[node]
}

// launched notes when a runner that does not listen yet was launched.
func (m *room) launched(node string, at time.Time) {
	if m.young == nil {
		m.young = map[string][]time.Time{}
	}
	m.young[node] = append(m.young[node], at)
}

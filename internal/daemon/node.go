package daemon

import (
	"fmt"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// node is what is known of a Proxmox node.
type node struct {
	up        bool      // the cluster sees it
	down      time.Time // since when it does not
	failures  int       // listings in a row that failed
	missing   int       // lists of nodes in a row without it
	listed    time.Time // when the listing in force began; zero: never
	templates []fleet.Template
	released  map[fleet.VMID]time.Time // replicas whose clone of ours ended
	trips     int                      // failures in a row, of whatever pool
	clones    int                      // those of them that were clones'
	blind     bool                     // it cannot be asked for a smoke boot
	total     fleet.Room               // as far as the token may see it
	used      fleet.Room
	stores    []fleet.Store            // as far as the token may see them
	locked    map[fleet.VMID]time.Time // since when templates are seen locked
	again     *time.Timer              // of the look whether they still are
	foreign   []proxmox.Foreign
	unused    []proxmox.Foreign // templates that cannot be used
}

// lostAfter is how many times in a row a node must not be listed before what
// it holds counts as unseen: one failed request says little.
const lostAfter = 3

// online reports whether the cluster sees the node and it can be listed.
func (n *node) online() bool { return n.up && n.failures < lostAfter }

// observed reports whether what is known of the node is what is there.
func (n *node) observed() bool { return n.online() && !n.listed.IsZero() }

// complete reports whether every node has been listed: only then is a
// registration without a container really without one.
func (s *state) complete() bool {
	for _, n := range s.nodes {
		if !n.observed() {
			return false
		}
	}
	return len(s.nodes) > 0
}

// nodesSeen applies the cluster's list of its nodes.
func (d *Daemon) nodesSeen(s *state, list []fleet.Node) {
	seen := map[string]bool{}
	for _, n := range list {
		seen[n.Name] = true
		d.nodeSeen(s, n)
	}
	if len(list) == 0 {
		return // a cluster has at least the node that answers
	}
	for _, r := range s.runners {
		if r.Node != "" && s.nodes[r.Node] == nil {
			s.joins(r.Node) // remembered from before
		}
	}
	for name, n := range s.nodes {
		if !seen[name] {
			d.nodeMissing(s, name, n)
		}
	}
}

func (d *Daemon) nodeSeen(s *state, n fleet.Node) {
	have := s.nodes[n.Name]
	if have == nil {
		have = s.joins(n.Name)
	}
	have.missing = 0
	have.total, have.used = n.Total, n.Used
	if n.Online {
		have.up, have.down = true, time.Time{}
	} else {
		have.falls()
		have.blind = false // it may come back with a newer Proxmox
		d.nodeLost(s, n.Name)
	}
}

// falls notes that the cluster does not see the node.
func (n *node) falls() {
	if n.up = false; n.down.IsZero() {
		n.down = time.Now()
	}
}

// nodeMissing notes that the cluster does not know a node any more. Once that
// is sure, what was on it is gone for us: nobody can reach it through the
// cluster, and its places must not be taken for ever.
func (d *Daemon) nodeMissing(s *state, name string, n *node) {
	n.falls()
	d.nodeLost(s, name)
	if n.missing++; n.missing < lostAfter {
		return
	}
	pending := false
	for _, r := range s.inOrder() {
		if r.Node != name {
			continue
		}
		if r.Pending != fleet.None {
			pending = true
			continue
		}
		d.vanished(r)
	}
	if pending {
		return
	}
	delete(s.nodes, name)
	d.bury(s, name, nil)
	if n.trips >= tripsMost {
		d.keepBroken()
	}
	d.looks.containers.drop(name)
	d.looks.stores.drop(name)
	d.fine("node " + name)
	d.log.Warn("node has left the cluster", "node", name)
}

// unlisted notes that a node could not be listed.
func (d *Daemon) unlisted(s *state, name string, err error) {
	n := s.nodes[name]
	if n == nil {
		return
	}
	if outage(err, proxmoxAway) != "" {
		d.looks.nodes.poke() // it may be that nothing answers
	}
	if n.failures++; n.failures >= lostAfter {
		d.partOf(outage(err, proxmoxAway), "node "+name, fmt.Sprintf("node %s: %v", name, err), hint(err))
		d.nodeLost(s, name)
	}
}

// nodeLost makes a node's containers unseen: they may be anything.
func (d *Daemon) nodeLost(s *state, name string) {
	for _, r := range s.runners {
		if r.Node == name && r.Container != fleet.Absent {
			r.Container = fleet.Unseen
		}
	}
}

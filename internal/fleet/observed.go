package fleet

import "time"

// Template is one replica of a template version on one node.
type Template struct {
	Ref
	Node    string
	VMID    VMID
	Storage string
	Locked  bool // a clone, ours or another's, holds its `disk` lock
	Full    bool // the storage cannot make linked clones
	DiskMiB int  // size of its disk; 0: not known

	Build    string    // which build made it; empty if it does not say
	Copy     bool      // a replica of another one on its node
	Runner   string    // version of actions/runner in it
	Built    time.Time // when; zero if it does not say
	NoEnv    bool      // its guest would not give its jobs the environment that a pool asks for
	Outdated string    // why its runners could do no job, mostly by its age: nothing is cloned from it; empty: they can
}

// Node is one Proxmox node that was listed, now or before.
type Node struct {
	Name   string
	Online bool
	Down   bool      // the cluster itself does not see it: nothing new can run on it
	Host   bool      // its root half can bring JIT configs into containers that run
	Away   time.Time // since when it has none, if it had one
	Lone   bool      // it may be one whose root half is to answer, and does not
	Frail  bool      // it failed several times in a row and has not shown yet that it works again
	Blind  bool      // nobody can ask for a smoke boot on it
	Total  Room      // what it has, as far as that may be seen
	Used   Room      // what is in use of it, by whomever
	Stores []Store   // its storages, as far as they may be seen
}

// Store is one storage of a node.
type Store struct {
	Name    string
	Shared  bool // with other nodes: it is the same one there
	FreeMiB int
	AsOf    time.Time // when that was asked
}

// Hold forbids new attempts for a while, after failures or a rate limit.
// Empty fields mean any.
type Hold struct {
	Kind   Kind // Clone or Launch; None is both
	Pool   string
	Ref    Ref // template version; empty is any
	Node   string
	Scope  Scope
	Until  time.Time
	Proof  bool // in place of Until: until a smoke boot on Node passes
	Reason string
}

// Evidence says when the last complete look at a scope began. What happened
// before it would have been seen.
type Evidence struct {
	Jobs          time.Time // all queued and running jobs were asked for
	Registrations time.Time
}

// Observed is what exists, as far as it is known.
type Observed struct {
	Jobs      []Job // those not completed; older ones first is not required
	Runners   []Runner
	Templates []Template
	Nodes     []Node
	Partial   bool // a node that answers has not been listed yet: what it has is not known
	Holds     []Hold
	Rollouts  []Rollout
	Evidence  map[Scope]Evidence
}

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
}

// Node is one Proxmox node.
type Node struct {
	Name   string
	Online bool
}

// Hold forbids new attempts for a while, after failures or a rate limit.
// Empty fields mean any.
type Hold struct {
	Kind   Kind // Clone or Launch; None is both
	Pool   string
	Node   string
	Scope  Scope
	Until  time.Time
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
	Holds     []Hold
	Evidence  map[Scope]Evidence
}

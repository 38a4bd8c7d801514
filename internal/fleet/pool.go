package fleet

import (
	"slices"
	"strings"
	"time"
)

// VMID is Proxmox's number of a container, for example 90012.
type VMID int

// Scope is the organisation ("acme") or repository ("acme/app") that a pool's
// runners register with.
type Scope string

// Repo reports whether s is a repository.
func (s Scope) Repo() bool { return strings.Contains(string(s), "/") }

// Owner is the account the scope belongs to.
func (s Scope) Owner() string {
	owner, _, _ := strings.Cut(string(s), "/")
	return owner
}

// Covers reports whether jobs of repo ("owner/name") can reach runners of s.
func (s Scope) Covers(repo string) bool {
	if s.Repo() {
		return strings.EqualFold(string(s), repo)
	}
	owner, _, ok := strings.Cut(repo, "/")
	return ok && strings.EqualFold(string(s), owner)
}

// Ref names a template: a family ("ubuntu-24.04") and a version
// ("2.335.1-1"). In a pool an empty version means the newest one.
type Ref struct{ Family, Version string }

func (r Ref) String() string {
	if r.Version == "" {
		return r.Family
	}
	return r.Family + "@" + r.Version
}

// Size is what a container may use. Zero fields are as in the template.
type Size struct {
	Cores     int
	MemoryMiB int
	SwapMiB   int // -1 is none at all
	DiskMiB   int // of the root file system, which only grows
	CPUUnits  int // weight where guests compete for processors
}

// Room is what a node has or must keep. Zero fields are none, or not known.
type Room struct {
	MemoryMiB  int
	Cores      int
	StorageMiB int // of a pool's reserve alone: free on the storage of its containers
}

// Network is where a container's first interface is plugged in. The zero value
// is as in the template.
type Network struct {
	Bridge   string // "vmbr0"
	VLAN     int    // 0 is untagged
	Firewall bool
}

// Timeouts are the deadlines of a runner's phases. None of them is zero in a
// valid pool.
type Timeouts struct {
	Clone    time.Duration // clone decided → container there
	Launch   time.Duration // launch decided → container started
	Register time.Duration // started → listening at GitHub
	Idle     time.Duration // listening without a job
	Job      time.Duration // hard wall clock of one job
	Warm     time.Duration // booted and waiting, before it is replaced; 0 is WarmLife
}

// Pool is a set of interchangeable runners, one HCL block.
type Pool struct {
	Name      string
	Scope     Scope
	Group     string   // runner group; empty is the default one
	Labels    []string // sent to GitHub exactly so: JIT adds none
	Template  Ref
	Follow    Constraint // which versions it rolls to when Template has none
	Keep      int        // older versions to keep beside those in use
	Replicas  int        // that a node must have before it counts for a new version
	MaxAge    time.Duration
	Roll      Rolling
	Spare     int // cloned, stopped, unregistered containers to keep
	Warm      int // booted, unregistered containers to keep beside them
	Schedules []Schedule
	Max       int // containers, of every phase
	Nodes     []string
	Pack      bool // fill one node before the next
	Reserve   Room // that a node keeps
	PerNode   int  // containers on one node; 0 is no limit
	Drained   bool
	Access    Access
	Size      Size
	Network   Network
	Egress    Egress
	Env       Env
	Timeouts  Timeouts
	Retry     Retry
	Reruns    int // of jobs that infrastructure lost, for each workflow run
}

// Serves reports whether a job of repo that asks for labels may run on the
// pool's runners: GitHub sends it to any runner that has all of them, without
// regard to case.
func (p *Pool) Serves(repo string, labels []string) bool {
	return p.Scope.Covers(repo) && !slices.ContainsFunc(labels, p.lacks)
}

func (p *Pool) lacks(label string) bool {
	return !slices.ContainsFunc(p.Labels, func(have string) bool { return strings.EqualFold(have, label) })
}

// mayUse reports whether the pool may use a node.
func (p *Pool) mayUse(node string) bool { return len(p.Nodes) == 0 || slices.Contains(p.Nodes, node) }

// Missing lists the labels that the pool's runners do not have.
func (p *Pool) Missing(labels []string) []string {
	var missing []string
	for _, l := range labels {
		if p.lacks(l) {
			missing = append(missing, l)
		}
	}
	return missing
}

// Limits bound all pools together. Zero fields are no limit.
type Limits struct {
	Max        int // containers
	PerNode    int // containers on one node
	NodeTasks  int // clone, start and destroy tasks at once on one node
	StoreTasks int // clone and destroy tasks at once on one storage of a node
}

// TemplateBlock is what the pool files say of a template: which versions of a
// family are used and kept. Each pool has it of its own; here it is for those
// who want to see what a commit changes.
type TemplateBlock struct {
	Ref
	Name     string
	Follow   Constraint
	Keep     int
	Replicas int
	MaxAge   time.Duration
	Pools    []string // that use it, by name
}

// Desired is what should exist.
type Desired struct {
	Pools     []Pool
	Templates []TemplateBlock
	Limits    Limits
	Unread    bool // nobody has said yet: nothing is decided
}

package daemon

import "time"

// The admin API's answers: JSON over HTTP on a Unix socket. Fields may be
// added; a client ignores those it does not know. A list is never null.

// Status is GET /v1/status.
type Status struct {
	Version  string          `json:"version"`
	Started  time.Time       `json:"started"`
	Revision string          `json:"revision"`          // of the pools in force
	Refused  string          `json:"refused,omitempty"` // why a newer revision is not in force
	Delivery string          `json:"delivery"`          // how JIT configs reach containers
	Pools    []PoolStatus    `json:"pools"`
	Runners  []RunnerStatus  `json:"runners"`
	Nodes    []NodeStatus    `json:"nodes"`
	Queued   int             `json:"queued"`
	Running  int             `json:"running"`
	Troubles []Trouble       `json:"troubles"`
	Reports  []ReportStatus  `json:"reports"` // what is told at GitHub, or why not
	Foreign  []ForeignStatus `json:"foreign"` // containers in our VMID range that are not ours
	Unused   []ForeignStatus `json:"unused"`  // templates that are not used, and why

	Templates []TemplateStatus `json:"templates"` // that may be used
}

// TemplateStatus is one template, and for how long its runners get jobs.
type TemplateStatus struct {
	Node     string    `json:"node"`
	VMID     int       `json:"vmid"`
	Version  string    `json:"version"` // family@version
	Runner   string    `json:"runner,omitempty"`
	Built    time.Time `json:"built,omitzero"`
	Ends     time.Time `json:"ends,omitzero"`      // when GitHub gives its runners no more jobs; absent: that is not announced
	Outdated string    `json:"outdated,omitempty"` // why its runners can do no job
}

// NodeStatus is one Proxmox node.
type NodeStatus struct {
	Name   string `json:"name"`
	Online bool   `json:"online"`

	Delivery string        `json:"delivery"` // how JIT configs reach containers on it: host or env
	Stores   []StoreStatus `json:"stores"`   // its storages for containers, as far as the token may see them
}

// StoreStatus is one storage of a node.
type StoreStatus struct {
	Name    string    `json:"name"`
	Shared  bool      `json:"shared"`
	FreeMiB int       `json:"free_mib"`
	AsOf    time.Time `json:"as_of"`
}

// PoolStatus is one pool and its runners by phase.
type PoolStatus struct {
	Name     string         `json:"name"`
	Scope    string         `json:"scope"`
	Labels   []string       `json:"labels"`
	Template string         `json:"template"`
	Max      int            `json:"max"`
	Spare    int            `json:"spare"`
	Warm     int            `json:"warm"` // now, by its schedule
	Drained  bool           `json:"drained"`
	Phases   map[string]int `json:"phases"` // phase → runners
	Queued   int            `json:"queued"` // jobs that this pool may run
}

// RunnerStatus is one runner.
type RunnerStatus struct {
	Name         string    `json:"name"`
	Pool         string    `json:"pool"`
	Node         string    `json:"node"`
	VMID         int       `json:"vmid"`
	Template     string    `json:"template"`
	Phase        string    `json:"phase"`
	Container    string    `json:"container"`
	Registration string    `json:"registration"`
	Pending      string    `json:"pending,omitempty"`
	Job          int64     `json:"job,omitempty"`
	Since        time.Time `json:"since"`
	Cause        string    `json:"cause,omitempty"`
	Drift        string    `json:"drift,omitempty"` // how it is not as its pool says
}

// Trouble is something that a person should know: what is wrong, where, and
// what to do.
type Trouble struct {
	Since time.Time `json:"since"`
	What  string    `json:"what"`
	Hint  string    `json:"hint,omitempty"`
	Next  time.Time `json:"next,omitzero"` // when what failed is tried or checked again, if that is known
}

// ForeignStatus is a container in our VMID range that is not ours, or a template
// that is not used.
type ForeignStatus struct {
	Node string `json:"node"`
	VMID int    `json:"vmid"`
	Name string `json:"name"`
	Why  string `json:"why"`
}

// JobStatus is a line of GET /v1/jobs, newest first (?repo= ?status= ?limit=).
type JobStatus struct {
	ID         int64     `json:"id"`
	Repo       string    `json:"repo"`
	Name       string    `json:"name"`
	Labels     []string  `json:"labels"`
	Status     string    `json:"status"`
	Conclusion string    `json:"conclusion,omitempty"`
	Runner     string    `json:"runner,omitempty"`
	URL        string    `json:"url,omitempty"`
	Created    time.Time `json:"created"`
	Started    time.Time `json:"started,omitzero"`
	Ended      time.Time `json:"ended,omitzero"`
}

// JobDetail is GET /v1/jobs/{id}: the job, what happens to it and why, and its
// timeline.
type JobDetail struct {
	JobStatus
	Explanation string  `json:"explanation"`
	Timeline    []Event `json:"timeline"`
}

// Event is one entry of the journal, also of GET /v1/events?after=ID&limit=N.
type Event struct {
	ID     int64     `json:"id,omitempty"`
	At     time.Time `json:"at"`
	What   string    `json:"what"` // queued, delivered, decided, cloned, minted, started, listening, running, done, destroyed, failed, …
	Job    int64     `json:"job,omitempty"`
	Runner string    `json:"runner,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

// PlanStatus is GET /v1/plan: what would be done now, and why.
type PlanStatus struct {
	At      time.Time     `json:"at"`
	Actions []ActionPlan  `json:"actions"`
	Blocked []BlockedPlan `json:"blocked"` // queued jobs for which nothing can be done
	Drift   []Trouble     `json:"drift"`   // containers and templates that somebody has changed, and what becomes of it
	Next    time.Time     `json:"next,omitzero"`
}

// ActionPlan is one action of a plan.
type ActionPlan struct {
	Kind     string `json:"kind"`
	Pool     string `json:"pool"`
	Runner   string `json:"runner,omitempty"`
	Node     string `json:"node,omitempty"`
	Template int    `json:"template,omitempty"`
	Reason   string `json:"reason"`
}

// BlockedPlan is a queued job and why it waits.
type BlockedPlan struct {
	Job    int64  `json:"job"`
	Repo   string `json:"repo"`
	Reason string `json:"reason"`
}

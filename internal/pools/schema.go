package pools

import "github.com/hashicorp/hcl/v2"

// The structs below are the schema: gohcl decodes into them, defaults are read
// from their tags, and pools/README.md is written from them. Tags beside hcl:
//
//	type     what a value may be, in words
//	default  the value when absent, as an HCL expression
//	unset    what absence means where there is no default
//	example  an HCL expression
//	doc      the description
//
// An attribute with neither default nor unset is required.
//
// Attributes are kept unevaluated: presence decides what is inherited from
// `defaults`, and diagnostics point at the exact expression.

// schemaVersion is what this release reads.
const schemaVersion = 1

type dayflyBlock struct {
	Schema   *hcl.Attribute `hcl:"schema,optional" type:"number" example:"1" doc:"Version of this language. This release reads 1."`
	Required *hcl.Attribute `hcl:"required_version,optional" type:"text" unset:"any release" example:"\">= 0.1.0, < 2.0.0\"" doc:"Releases of dayfly that may read these files: comparisons, separated by commas. Builds without a release number read them all."`
}

type limitsBlock struct {
	Max          *hcl.Attribute `hcl:"max,optional" type:"number, 1 to 10000" unset:"no limit" example:"40" doc:"Containers of all pools together, in every phase."`
	PerNode      *hcl.Attribute `hcl:"per_node,optional" type:"number, 1 to 10000" unset:"no limit" example:"20" doc:"Containers of all pools together on one node."`
	NodeTasks    *hcl.Attribute `hcl:"node_tasks,optional" type:"number, 1 to 100" default:"8" example:"8" doc:"Clone, start and destroy tasks at once on one node."`
	StorageTasks *hcl.Attribute `hcl:"storage_tasks,optional" type:"number, 1 to 100" default:"3" example:"3" doc:"Clone and destroy tasks at once on one storage of a node. Proxmox VE locks a storage for part of each, and a task that waits too long for the lock fails."`
}

type templateBlock struct {
	Family  *hcl.Attribute `hcl:"family,optional" type:"text" example:"\"ubuntu-24.04\"" doc:"Family of the template, as given to the Packer plugin."`
	Version *hcl.Attribute `hcl:"version,optional" type:"text" unset:"the newest version" example:"\"2.335.1-1\"" doc:"Exact version to clone."`
}

// poolBody is what a pool block contains, and a defaults block.
type poolBody struct {
	Description *hcl.Attribute `hcl:"description,optional" type:"text" unset:"none" example:"\"General purpose runners\"" doc:"For people."`
	Labels      *hcl.Attribute `hcl:"labels,optional" type:"list of 1 to 100 texts" example:"[\"self-hosted\", \"linux\", \"x64\"]" doc:"Labels of the runners, complete: GitHub adds none, not even self-hosted. A job runs on a pool that has all labels of its runs-on."`
	Template    *hcl.Attribute `hcl:"template,optional" type:"reference" example:"template.ubuntu-24" doc:"Template to clone, one of this configuration's template blocks."`
	Enabled     *hcl.Attribute `hcl:"enabled,optional" type:"true or false" default:"true" example:"false" doc:"false drains the pool: running jobs end, no new runner starts."`

	Scale     *scaleBlock     `hcl:"scale,block" doc:"How many containers there are."`
	GitHub    *githubBlock    `hcl:"github,block" doc:"Where runners register. A pool that sets org or repo takes nothing of this block from defaults."`
	Placement *placementBlock `hcl:"placement,block" doc:"Which nodes containers are on."`
	Size      *sizeBlock      `hcl:"size,block" doc:"What a container may use. Memory is given as \"512MiB\", \"8GiB\" or \"1TiB\"."`
	Network   *networkBlock   `hcl:"network,block" doc:"Where a container's first interface is plugged in."`
	Timeouts  *timeoutsBlock  `hcl:"timeouts,block" doc:"Deadlines of a runner's phases. Durations are given as \"90s\", \"5m\" or \"1h30m\". None may exceed job."`
	Retry     *retryBlock     `hcl:"retry,block" doc:"How failed attempts are spaced. Attempts never end while a job is queued."`
}

type scaleBlock struct {
	Max   *hcl.Attribute `hcl:"max,optional" type:"number, 1 to 10000" example:"12" doc:"Containers of this pool, in every phase."`
	Spare *hcl.Attribute `hcl:"spare,optional" type:"number, 0 to max" default:"0" example:"2" doc:"Containers to keep cloned, stopped and unregistered, so that a job only waits for the start."`
}

type githubBlock struct {
	Org   *hcl.Attribute `hcl:"org,optional" type:"text" unset:"see repo" example:"\"acme\"" doc:"Organisation that runners register with. Exactly one of org and repo is required."`
	Repo  *hcl.Attribute `hcl:"repo,optional" type:"text" unset:"see org" example:"\"acme/app\"" doc:"Repository that runners register with."`
	Group *hcl.Attribute `hcl:"group,optional" type:"text" unset:"the default group" example:"\"proxmox\"" doc:"Runner group. Only organisations have them."`
}

type placementBlock struct {
	Nodes      *hcl.Attribute `hcl:"nodes,optional" type:"list of 1 to 64 texts" unset:"every node with the template" example:"[\"pve1\", \"pve2\"]" doc:"Proxmox VE nodes to use."`
	MaxPerNode *hcl.Attribute `hcl:"max_per_node,optional" type:"number, 1 to 10000" unset:"no limit" example:"8" doc:"Containers of this pool on one node."`
}

type sizeBlock struct {
	Cores  *hcl.Attribute `hcl:"cores,optional" type:"number, 1 to 8192" unset:"as in the template" example:"4" doc:"Processor cores."`
	Memory *hcl.Attribute `hcl:"memory,optional" type:"size, 16MiB to 16TiB" unset:"as in the template" example:"\"8GiB\"" doc:"Main memory."`
	Swap   *hcl.Attribute `hcl:"swap,optional" type:"size, 0 to 16TiB" unset:"as in the template" example:"\"0\"" doc:"Swap space; \"0\" is none."`
}

type networkBlock struct {
	Bridge   *hcl.Attribute `hcl:"bridge,optional" type:"text" unset:"as in the template" example:"\"vmbr0\"" doc:"Bridge, or SDN virtual network."`
	VLAN     *hcl.Attribute `hcl:"vlan,optional" type:"number, 1 to 4094" unset:"untagged" example:"240" doc:"VLAN tag. Needs bridge."`
	Firewall *hcl.Attribute `hcl:"firewall,optional" type:"true or false" default:"true" example:"true" doc:"Proxmox VE's firewall on the interface. Applies where bridge is set."`
}

type timeoutsBlock struct {
	Clone    *hcl.Attribute `hcl:"clone,optional" type:"duration, 10s to 2h" default:"\"5m\"" example:"\"5m\"" doc:"Clone decided to container there."`
	Launch   *hcl.Attribute `hcl:"launch,optional" type:"duration, 5s to 1h" default:"\"60s\"" example:"\"60s\"" doc:"Launch decided to container started."`
	Register *hcl.Attribute `hcl:"register,optional" type:"duration, 5s to 1h" default:"\"60s\"" example:"\"90s\"" doc:"Container started to runner listening at GitHub."`
	Idle     *hcl.Attribute `hcl:"idle,optional" type:"duration, 10s to 23h" default:"\"5m\"" example:"\"5m\"" doc:"Listening without a job. GitHub forgets the registration of an unused runner after a day."`
	Job      *hcl.Attribute `hcl:"job,optional" type:"duration, 1m to 120h" default:"\"6h\"" example:"\"6h\"" doc:"Wall clock of one job, after which its container is destroyed. GitHub's own limit is 5 days."`
}

type retryBlock struct {
	Attempts *hcl.Attribute `hcl:"attempts,optional" type:"number, 1 to 1000" default:"5" example:"5" doc:"Failures in a row after which the pool counts as degraded."`
	Backoff  *hcl.Attribute `hcl:"backoff,optional" type:"two durations, 1s to 1h" default:"\"2s..60s\"" example:"\"2s..60s\"" doc:"Time before a new attempt, from the first to the last; it doubles in between."`
}

// later names what the language is meant to have and this release cannot
// honour. It is refused rather than ignored, and told apart from a misspelling.
var later = map[string][]string{
	"":          {"variable", "env"},
	"dayfly":    nil,
	"limits":    nil,
	"template":  {"keep", "replicas", "verify", "max_age"},
	"pool":      {"access", "rollout", "env", "warm"},
	"scale":     {"min_idle", "burst", "warm"},
	"github":    {"repos", "enterprise"},
	"placement": {"strategy", "reserve"},
	"size":      {"disk", "cpu_units"},
	"network":   {"egress", "allow"},
	"timeouts":  {"boot", "shutdown"},
	"retry":     nil,
}

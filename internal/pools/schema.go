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
	Family   *hcl.Attribute `hcl:"family,optional" type:"text" example:"\"ubuntu-24.04\"" doc:"Family of the template, as given to the Packer plugin."`
	Version  *hcl.Attribute `hcl:"version,optional" type:"text" unset:"the newest version" example:"\"~> 2.335\"" doc:"One exact version, or comparisons separated by commas (=, !=, <, <=, >, >=, ~>) of which the newest version that meets them all is rolled to. \"~> 2.335\" is at least 2.335 and below 3."`
	Keep     *hcl.Attribute `hcl:"keep,optional" type:"number, 0 to 100" default:"3" example:"3" doc:"Older versions to keep beside those in use. dayfly may not remove templates; \"dayfly rollout status\" lists those that may be."`
	Replicas *hcl.Attribute `hcl:"replicas,optional" type:"number, 1 to 32" default:"1" example:"2" doc:"Copies of a version that a node must have before the pool is rolled to it there: Proxmox VE locks a template while it is cloned."`
	MaxAge   *hcl.Attribute `hcl:"max_age,optional" type:"duration, 24h to 8760h" default:"\"45d\"" example:"\"45d\"" doc:"Age of a template after which a warning is given: GitHub stops giving jobs to old runners."`
}

// poolBody is what a pool block contains, and a defaults block.
type poolBody struct {
	Description *hcl.Attribute `hcl:"description,optional" type:"text" unset:"none" example:"\"General purpose runners\"" doc:"For people."`
	Labels      *hcl.Attribute `hcl:"labels,optional" type:"list of 1 to 100 texts" example:"[\"self-hosted\", \"linux\", \"x64\"]" doc:"Labels of the runners, complete: GitHub adds none, not even self-hosted. A job runs on a pool that has all labels of its runs-on."`
	Template    *hcl.Attribute `hcl:"template,optional" type:"reference" example:"template.ubuntu-24" doc:"Template to clone, one of this configuration's template blocks."`
	Env         *hcl.Attribute `hcl:"env,optional" type:"names and texts, at most 64" unset:"none" example:"{ HTTPS_PROXY = \"http://10.20.0.5:3128\", NO_PROXY = \"localhost,.example.com\" }" doc:"Environment variables for the steps of jobs, and for the runner itself, which takes its proxies from them; Docker's daemon and containers of a job have none of them. No place for secrets: they are in git, in plans, and every job reads them. A value is printable ASCII without quotation marks, backslashes, backticks and dollar signs. Names that the runner, the guest or a shell use are refused: PATH, HOME, ACTIONS_*, GITHUB_*, RUNNER_*, DAYFLY_*, LD_* and others. A pool's own map replaces that of defaults; merge makes one of several."`
	Enabled     *hcl.Attribute `hcl:"enabled,optional" type:"true or false" default:"true" example:"false" doc:"false drains the pool: running jobs end, no new runner starts."`

	Scale     *scaleBlock     `hcl:"scale,block" doc:"How many containers there are."`
	GitHub    *githubBlock    `hcl:"github,block" doc:"Where runners register. A pool that sets org or repo takes nothing of this block from defaults."`
	Placement *placementBlock `hcl:"placement,block" doc:"Which nodes containers are on."`
	Size      *sizeBlock      `hcl:"size,block" doc:"What a container may use. Memory is given as \"512MiB\", \"8GiB\" or \"1TiB\"."`
	Access    *accessBlock    `hcl:"access,block" doc:"Whose jobs the pool runs. It bounds what dayfly starts runners for; GitHub gives a job to any runner that has its labels, so keep away with a runner group, or a scope, what must never reach them."`
	Network   *networkBlock   `hcl:"network,block" doc:"Where a container's first interface is plugged in, and what may be reached from there."`
	Timeouts  *timeoutsBlock  `hcl:"timeouts,block" doc:"Deadlines of a runner's phases. Durations are given as \"90s\", \"5m\" or \"1h30m\". None may exceed job."`
	Rollout   *rolloutBlock   `hcl:"rollout,block" doc:"How the pool goes over to another template version: smoke boots without a job, canary steps, then everything, and a time in which the way back is open. A runner that fails for a reason that lies in its template counts, how jobs end does not."`
	Retry     *retryBlock     `hcl:"retry,block" doc:"How failed attempts are spaced. Attempts never end while a job is queued."`
}

type scaleBlock struct {
	Max   *hcl.Attribute `hcl:"max,optional" type:"number, 1 to 10000" example:"12" doc:"Containers of this pool, in every phase."`
	Spare *hcl.Attribute `hcl:"spare,optional" type:"number, 0 to max" default:"0" example:"2" doc:"Containers to keep cloned, stopped and unregistered, so that a job only waits for the start."`
	Warm  *hcl.Attribute `hcl:"warm,optional" type:"number, 0 to max" default:"0" example:"1" doc:"Containers to keep booted and unregistered beside the spares, so that a job waits for its runner only. They need the root half on their node (dayfly host); where there is none, they are spares."`

	Schedule []*scheduleBlock `hcl:"schedule,block" doc:"A time of the week in which the pool keeps another number of warm containers. There may be several; of those at the same time, the largest number counts."`
}

type scheduleBlock struct {
	Days     *hcl.Attribute `hcl:"days,optional" type:"list of 1 to 7 days" default:"[\"mon\", \"tue\", \"wed\", \"thu\", \"fri\", \"sat\", \"sun\"]" example:"[\"mon\", \"fri\"]" doc:"Days on which it begins."`
	From     *hcl.Attribute `hcl:"from,optional" type:"time of the day" default:"\"00:00\"" example:"\"08:30\"" doc:"When it begins, by the clock of the time zone."`
	For      *hcl.Attribute `hcl:"for,optional" type:"duration, 1m to 24h" default:"\"24h\"" example:"\"10h\"" doc:"How long it lasts."`
	Timezone *hcl.Attribute `hcl:"timezone,optional" type:"text" default:"\"UTC\"" example:"\"Europe/Berlin\"" doc:"Name of the time zone."`
	Warm     *hcl.Attribute `hcl:"warm,optional" type:"number, 0 to max" default:"1" example:"3" doc:"Warm containers then."`
}

type githubBlock struct {
	Org   *hcl.Attribute `hcl:"org,optional" type:"text" unset:"see repo" example:"\"acme\"" doc:"Organisation that runners register with. Exactly one of org and repo is required."`
	Repo  *hcl.Attribute `hcl:"repo,optional" type:"text" unset:"see org" example:"\"acme/app\"" doc:"Repository that runners register with."`
	Group *hcl.Attribute `hcl:"group,optional" type:"text" unset:"the default group" example:"\"proxmox\"" doc:"Runner group. Only organisations have them."`
}

type placementBlock struct {
	Nodes      *hcl.Attribute `hcl:"nodes,optional" type:"list of 1 to 64 texts" unset:"every node with the template" example:"[\"pve1\", \"pve2\"]" doc:"Proxmox VE nodes to use."`
	MaxPerNode *hcl.Attribute `hcl:"max_per_node,optional" type:"number, 1 to 10000" unset:"no limit" example:"8" doc:"Containers of this pool on one node."`
	Strategy   *hcl.Attribute `hcl:"strategy,optional" type:"\"spread\" or \"pack\"" default:"\"spread\"" example:"\"pack\"" doc:"Which of the nodes with room a container is put on: the one with most room left, or the one with least."`

	Reserve *reserveBlock `hcl:"reserve,block" doc:"What a node must have left when all of the pool's runners there use what they may. Where memory, cores or storage are not known, there is room: Proxmox tells who has Sys.Audit, and a root half the cores."`
}

type reserveBlock struct {
	Memory  *hcl.Attribute `hcl:"memory,optional" type:"size, 0 to 16TiB" default:"\"0\"" example:"\"8GiB\"" doc:"Memory that stays free."`
	Cores   *hcl.Attribute `hcl:"cores,optional" type:"number, 0 to 8192" default:"0" example:"2" doc:"Cores that no runner is given."`
	Storage *hcl.Attribute `hcl:"storage,optional" type:"size, 0 to 16TiB" default:"\"2GiB\"" example:"\"50GiB\"" doc:"What must be free on the storage of the node's template for one more container, beside the size of its disk where clones are full ones. Linked clones take nothing until their jobs write: give what the jobs on a node write together. A thin pool that runs full damages every guest on it."`
}

type rolloutBlock struct {
	Smoke     *hcl.Attribute `hcl:"smoke,optional" type:"number, 0 to 10" default:"1" example:"1" doc:"Boots without a job, in which the guest checks Docker and its storage driver, tun, the way to GitHub, the clock and the runner. Templates that were made before these checks were need 0."`
	Wait      *hcl.Attribute `hcl:"wait,optional" type:"duration, 0s to 1h" default:"\"60s\"" example:"\"60s\"" doc:"Time between the first sight of a version and its roll: templates appear node by node, and another may follow."`
	Bake      *hcl.Attribute `hcl:"bake,optional" type:"duration, 0s to 168h" default:"\"24h\"" example:"\"24h\"" doc:"Time after the roll in which the version may still be rolled back. 50 jobs end it early; it is not over before one runner of the version has listened. With 0s there is no way back."`
	Failures  *hcl.Attribute `hcl:"max_infra_failures,optional" type:"number, 1 to 100" default:"2" example:"2" doc:"Failed runners in the first 25 after which the version is given up; each further 50 allow one more."`
	Slower    *hcl.Attribute `hcl:"max_boot_time_increase,optional" type:"percentage, 0% to 1000%" default:"\"50%\"" example:"\"50%\"" doc:"By how much the median boot may be slower than with the version before, and by 3 s in any case. \"0%\" does not compare."`
	Deadline  *hcl.Attribute `hcl:"progress_deadline,optional" type:"duration, 1m to 168h" default:"\"2h\"" example:"\"2h\"" doc:"Longest time of a step. When too few jobs came for a canary step and none failed, smoke boots stand in; but one runner must have listened."`
	OnFailure *hcl.Attribute `hcl:"on_failure,optional" type:"\"rollback\" or \"pause\"" default:"\"rollback\"" example:"\"pause\"" doc:"What a version does that is given up. With pause a person decides; new runners are of the version before in either case."`

	Window []*windowBlock `hcl:"window,block" doc:"A time of the week in which a step may begin: smoke boots, a canary step, or everything. Outside of it, what is under way goes on, and what comes next waits. Rolling back never waits, nor does the way to a version that was stable before, what is promoted by hand, and a pool whose stable version can do no job. There may be several."`
	Canary []*canaryBlock `hcl:"canary,block" doc:"A step in which some jobs get runners of the new version. There may be several, in this order. Without any, the first is 5 jobs, one at a time, and the second 20 jobs, a quarter of all; jobs = 0 is no step."`
}

type windowBlock struct {
	Days     *hcl.Attribute `hcl:"days,optional" type:"list of 1 to 7 days" default:"[\"mon\", \"tue\", \"wed\", \"thu\", \"fri\", \"sat\", \"sun\"]" example:"[\"mon\", \"tue\", \"wed\", \"thu\"]" doc:"Days on which it begins."`
	From     *hcl.Attribute `hcl:"from,optional" type:"time of the day" default:"\"00:00\"" example:"\"09:00\"" doc:"When it begins, by the clock of the time zone."`
	For      *hcl.Attribute `hcl:"for,optional" type:"duration, 1m to 24h" default:"\"24h\"" example:"\"7h\"" doc:"How long it lasts."`
	Timezone *hcl.Attribute `hcl:"timezone,optional" type:"text" default:"\"UTC\"" example:"\"Europe/Berlin\"" doc:"Name of the time zone."`
}

type canaryBlock struct {
	Jobs    *hcl.Attribute `hcl:"jobs,optional" type:"number, 0 to 1000" default:"5" example:"5" doc:"Jobs after whose start the step is over."`
	Percent *hcl.Attribute `hcl:"percent,optional" type:"number, 1 to 100" default:"100" example:"25" doc:"Share of the jobs that get such a runner."`
	AtOnce  *hcl.Attribute `hcl:"max_concurrent,optional" type:"number, 1 to 1000" unset:"no limit" example:"1" doc:"Such runners at a time. Of several containers of a pool, one is left to the version before in any case."`
}

type sizeBlock struct {
	Cores    *hcl.Attribute `hcl:"cores,optional" type:"number, 1 to 8192" unset:"as in the template" example:"4" doc:"Processor cores."`
	Memory   *hcl.Attribute `hcl:"memory,optional" type:"size, 16MiB to 16TiB" unset:"as in the template" example:"\"8GiB\"" doc:"Main memory."`
	Swap     *hcl.Attribute `hcl:"swap,optional" type:"size, 0 to 16TiB" unset:"as in the template" example:"\"0\"" doc:"Swap space; \"0\" is none."`
	Disk     *hcl.Attribute `hcl:"disk,optional" type:"size in whole GiB, 1GiB to 16TiB" unset:"as in the template" example:"\"40GiB\"" doc:"Root file system. Disks only grow: a template with a larger one is not used. Each container's is made larger after its clone, which takes a moment more, and the token needs VM.Config.Disk on the runners' resource pool."`
	CPUUnits *hcl.Attribute `hcl:"cpu_units,optional" type:"number, 1 to 10000" unset:"as in the template" example:"100" doc:"Weight of a container where guests compete for processors: one with twice as much gets twice the time. Proxmox VE gives a guest 100 that says nothing."`
}

type timeoutsBlock struct {
	Clone    *hcl.Attribute `hcl:"clone,optional" type:"duration, 10s to 2h" default:"\"5m\"" example:"\"5m\"" doc:"Clone decided to container there."`
	Launch   *hcl.Attribute `hcl:"launch,optional" type:"duration, 5s to 1h" default:"\"60s\"" example:"\"60s\"" doc:"Launch decided to container started."`
	Register *hcl.Attribute `hcl:"register,optional" type:"duration, 5s to 1h" default:"\"60s\"" example:"\"90s\"" doc:"Container started to runner listening at GitHub."`
	Idle     *hcl.Attribute `hcl:"idle,optional" type:"duration, 10s to 23h" default:"\"5m\"" example:"\"5m\"" doc:"Listening without a job. GitHub forgets the registration of an unused runner after a day."`
	Job      *hcl.Attribute `hcl:"job,optional" type:"duration, 1m to 120h" default:"\"6h\"" example:"\"6h\"" doc:"Wall clock of one job, after which its container is destroyed. GitHub's own limit is 5 days."`
	Warm     *hcl.Attribute `hcl:"warm,optional" type:"duration, 1m to 168h" default:"\"4h\"" example:"\"4h\"" doc:"Booted and waiting, after which a warm container is replaced."`
}

type retryBlock struct {
	Attempts *hcl.Attribute `hcl:"attempts,optional" type:"number, 1 to 1000" default:"5" example:"5" doc:"Failures in a row after which the pool counts as degraded."`
	Backoff  *hcl.Attribute `hcl:"backoff,optional" type:"two durations, 1s to 1h" default:"\"2s..60s\"" example:"\"2s..60s\"" doc:"Time before a new attempt, from the first to the last; it doubles in between."`
	LostJobs *hcl.Attribute `hcl:"lost_jobs,optional" type:"number, 0 to 10" default:"0" example:"1" doc:"How often, for each workflow run, GitHub is asked to run jobs again that infrastructure lost: their container or node died, and GitHub gave them up more than two minutes later. Failed and cancelled jobs never are. A job that stops its own container looks lost. Needs the App's permission actions: write."`
}

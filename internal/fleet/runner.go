package fleet

import "time"

// Container is what is known of a runner's container.
type Container int

// The states of a container.
const (
	Absent   Container = iota // not there
	Creating                  // a clone task makes it, or left it half-made
	Stopped
	Running
	Unseen // its node does not answer: it may be anything, so nothing is done
)

var containerNames = [...]string{"absent", "creating", "stopped", "running", "unseen"}

func (c Container) String() string { return word(containerNames[:], int(c)) }

// Registration is GitHub's record of a runner as last listed.
type Registration int

// The states of a registration.
const (
	Unregistered Registration = iota
	Offline
	Online
	BusyFlag // online, and GitHub says that it runs a job
)

var registrationNames = [...]string{"unregistered", "offline", "online", "busy"}

func (r Registration) String() string { return word(registrationNames[:], int(r)) }

// Runner is one container and one registration with the same name. Times are
// zero until the thing happened.
//
// Whoever fills it in keeps three rules. A listing that began before an action
// on the runner ended says nothing of it. A mint makes the registration Offline
// at once, before any listing shows it. A container found without any memory
// of it has Launched set if a JIT config may ever have reached it.
type Runner struct {
	Name           string
	Pool           string // may be one that is no longer desired
	Scope          Scope
	Node           string
	VMID           VMID
	Template       Ref
	Source         VMID   // the replica it was cloned from
	Storage        string // of its root file system, if known
	Container      Container
	Registration   Registration
	RegistrationID int64
	Pending        Kind   // the action under way on it, if any
	Job            JobID  // the job seen on it, if any
	Drift          string // how it is not as its pool says; empty: it is, or that is not known

	Created  time.Time // first known: the clone's intent, or its discovery
	Cloned   time.Time // container there, stopped
	Launched time.Time // a JIT config may have been minted for it
	Started  time.Time // start task done
	Listened time.Time // first seen online
	Took     time.Time // its job started
	Ended    time.Time // its job ended, or the container stopped after launch
	Spent    time.Time // given up: a failed attempt, or deregistered by us
	Removed  time.Time // we deleted its registration, or made sure there is none
	Cause    string    // why it was given up, in the words of the reason

	Smoked time.Time // started without a JIT config, to see whether it boots
	Passed time.Time // its smoke checks passed
	Failed time.Time // it failed for a reason that lies in itself, not in its node or GitHub
	Fault  string    // what that was
	Exit   int       // how the runner's process ended, if known; 7: GitHub refuses its version

	Booted time.Time // started to wait, warm, for a JIT config

	Retry time.Time // no action on it before

	// Since when listings show that GitHub, which heard of it once, hears nothing
	// of it any more. Observed, not remembered.
	Silent time.Time
}

// Phase is how far a runner is. It only goes forward.
type Phase int

// The phases. Proving and Warm are of some runners only.
const (
	Cloning Phase = iota
	Spare
	Proving   // booted without a JIT config, to see whether it does
	Warm      // booted, waits for a JIT config
	Launching // JIT minted, not yet listening
	Idle      // listening
	Busy
	Done // nothing of it is of use any more
	Gone
)

var phaseNames = [...]string{"cloning", "spare", "smoke", "warm", "launching", "idle", "busy", "done", "gone"}

func (p Phase) String() string { return word(phaseNames[:], int(p)) }

// Phase derives the phase from what is seen of the runner. What contradicts
// itself is read as the phase in which less is done to it.
func (r *Runner) Phase() Phase {
	switch {
	case r.vanished():
		return Gone
	case r.exited():
		return Done
	case r.Ended.IsZero() && (r.Job != 0 || !r.Took.IsZero() || r.Registration == BusyFlag):
		return Busy
	case r.over():
		return Done
	case r.smoked():
		return Proving
	case r.warm():
		return Warm
	case r.Registration == Online || !r.Listened.IsZero():
		return Idle
	case r.Pending == Launch || r.used():
		return Launching
	case !r.Cloned.IsZero():
		return Spare
	default:
		return Cloning
	}
}

func (r *Runner) over() bool { return !r.Spent.IsZero() || !r.Ended.IsZero() }

// used reports whether a JIT config may have been minted for the runner: never
// launch it again. A container that runs was launched, remembered or not.
func (r *Runner) used() bool {
	return !r.smoked() && !r.warm() && (r.Container == Running || r.Job != 0 || !first(r.Launched, r.Started, r.Listened, r.Took).IsZero())
}

// smoked reports whether the container was started without a JIT config, and
// can have no job.
func (r *Runner) smoked() bool {
	return !r.Smoked.IsZero() && r.Job == 0 && r.Registration == Unregistered && first(r.Launched, r.Listened, r.Took).IsZero()
}

// vanished reports whether neither container nor registration is there, and
// none is being made.
func (r *Runner) vanished() bool {
	return r.Container == Absent && r.Registration == Unregistered && r.Pending == None &&
		(r.over() || r.used() || !r.Cloned.IsZero())
}

// exited reports whether the container ran and runs no longer, or is not there
// at all: no process of a job can be alive in it, whatever GitHub says.
func (r *Runner) exited() bool {
	switch {
	case r.Pending == Clone || r.Pending == Launch || r.Pending == Smoke || r.Pending == Boot:
		return false
	case r.Container == Absent:
		return r.Registration != Unregistered || r.used()
	default:
		return r.Container == Stopped && !first(r.Started, r.Booted, r.Spent).IsZero()
	}
}

// mayRun reports whether a process of a job may be alive in the container.
func (r *Runner) mayRun() bool {
	return r.Ended.IsZero() && r.Container != Absent && !r.exited()
}

// Forgettable reports whether nothing is left of the runner: its container is
// gone, and a listing of registrations that began after its end had none.
func (r *Runner) Forgettable(ev Evidence) bool {
	return r.Phase() == Gone && r.cleared(ev)
}

// cleared reports whether no registration of the runner can be left: it never
// had one, we removed it, or a listing after its end does not show it.
func (r *Runner) cleared(ev Evidence) bool {
	last := r.end()
	return r.Registration == Unregistered &&
		(!r.used() || !r.Removed.IsZero() || !last.IsZero() && ev.Registrations.After(last))
}

// end is the last thing known to have happened to a runner that was launched.
func (r *Runner) end() time.Time {
	last := r.Launched
	for _, t := range [...]time.Time{r.Started, r.Listened, r.Took, r.Ended, r.Spent} {
		last = later(last, t)
	}
	return last
}

// Counts reports whether the runner takes a place under the limits: a
// container counts until it is gone, and from the intent to clone it.
func (r *Runner) Counts() bool {
	return r.Container != Absent || r.Pending == Clone || r.Phase() == Cloning
}

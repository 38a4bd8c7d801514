package fleet

import (
	"hash/fnv"
	"slices"
	"strconv"
	"time"
)

// Stage is how far a pool's roll-out is.
type Stage int

// The stages. A roll goes through them in this order; the last three are off
// its way.
const (
	Settled      Stage = iota // every new container is of the stable version
	Preflight                 // a candidate is there: is it, and are the nodes, fit?
	Smoking                   // candidates boot without a job
	Canarying                 // some jobs' runners are candidates
	Full                      // every new runner is a candidate; spares are replaced
	Baking                    // all are, and the way back is still open
	Paused                    // by a person, or by a failure if the pool says so
	Inconclusive              // the stable version fails as well: a person must look
	RollingBack               // every new runner is stable again, candidates leave
)

var stageNames = [...]string{"stable", "preflight", "smoke", "canary", "full", "bake", "paused", "inconclusive", "rolling back"}

func (s Stage) String() string { return word(stageNames[:], int(s)) }

// Rolling is how a pool goes over to another template version. The zero value
// goes at once.
type Rolling struct {
	Wait        time.Duration // from the first sight of a candidate on
	Smoke       int           // boots without a job
	Canary      []Canary
	Bake        time.Duration // time before the way back is closed
	MaxFailures int           // of infrastructure, in the first 25 boots; 0 is 1
	MaxSlower   int           // percent by which boots may be slower; 0: not looked at
	Deadline    time.Duration // for a stage without progress; 0 is none
	Pause       bool          // on failure, rather than roll back
	Windows     []Window      // in which a step may begin; none: at any time
}

// Canary is one step: it is over when so many jobs have been started by
// candidates.
type Canary struct {
	Jobs    int
	Percent int // of the jobs; 0 is 100
	AtOnce  int // candidates at a time; 0 is no limit
}

// Tally counts what became of runners of one version.
type Tally struct{ Boots, Jobs, Failures int }

// Verdict is a version that is never rolled to again, and why.
type Verdict struct {
	Version Ref
	Reason  string
	At      time.Time
}

// Rollout is one pool's way from a template version to another. It is data:
// Roll makes the next one from it, Plan does what it says.
type Rollout struct {
	Pool      string
	Stable    Ref // the last good version; empty: none was ever there
	Candidate Ref // empty: none
	Stage     Stage
	Step      int       // of the canary steps
	Resume    Stage     // where a paused roll goes on
	Began     time.Time // when the candidate was taken up
	Since     time.Time // of the stage or step
	Reason    string    // why it is in this stage
	Note      string    // what keeps it from going on, or from a newer version
	Opens     time.Time // when its next step may begin, if it waits for nothing but that

	Good []Ref     // versions that were stable before, the last one first
	Bad  []Verdict // remembered until a person asks to retry

	Trial   Tally     // of the candidate
	Control Tally     // of the stable version in the same time
	Now     Tally     // of the candidate in this stage or step
	Pardon  time.Time // no failure before it condemns a version
	Fault   string    // what the candidate failed of last
	Avoid   string    // the node of the last smoke boot that failed
	Answer  time.Time // the candidate's last failure: jobs queued before it get the stable version

	Starving int       // runners of the stable version in a row that listened and got no job
	Rest     time.Time // no more of them before

	Boots []time.Duration // of the candidate: launched → listening
	Usual []time.Duration // of the stable version, the last ones

	Mark   time.Time // what happened up to then is counted
	AtMark []string  // what happened exactly then and is counted
}

// Rolls reports whether the pool is between two versions.
func (r Rollout) Rolls() bool { return r.Stage != Settled }

// leads reports whether new containers are candidates.
func (r Rollout) leads() bool {
	open := func(s Stage) bool { return s == Full || s == Baking }
	return open(r.Stage) || r.Stage == Paused && open(r.Resume)
}

// lines are the version that new containers have, and the other one that some
// have; empty: none.
func (r Rollout) lines() (main, other Ref) {
	switch {
	case r.leads():
		return r.Candidate, r.Stable
	case r.Stage == Smoking || r.Stage == Canarying:
		return r.Stable, r.Candidate
	}
	return r.Stable, Ref{}
}

// bad is the verdict on a version, if there is one.
func (r Rollout) bad(ref Ref) *Verdict {
	i := slices.IndexFunc(r.Bad, func(v Verdict) bool { return v.Version == ref })
	if i < 0 {
		return nil
	}
	return &r.Bad[i]
}

// picks reports whether a job is among the percent that get a candidate. It
// depends on the job and the roll alone, so that no pass changes it.
func (r Rollout) picks(j JobID, percent int) bool {
	if percent <= 0 || percent >= 100 {
		return true
	}
	h := fnv.New64a()
	_, _ = h.Write(strconv.AppendInt([]byte(r.Pool+"\x00"+r.Candidate.String()+"\x00"), int64(j), 10))
	n := h.Sum64()
	n ^= n >> 31
	n *= 0x9e3779b97f4a7c15 // FNV's low bits hardly depend on the last bytes
	return int(n>>33%100) < percent
}

// step is the canary step that is under way.
func (q Pool) step(r *Rollout) Canary {
	if r.Step < len(q.Roll.Canary) {
		return q.Roll.Canary[r.Step]
	}
	return Canary{}
}

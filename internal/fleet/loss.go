package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Deaf is how long a container must have been dead when GitHub gave its job up
// for the job to count as lost: a runner that lives tells GitHub of the end
// itself, before its container stops. GitHub gives up a runner that is silent
// after more than nine minutes.
const Deaf = 2 * time.Minute

// lossFor is how long it is waited for the end of a run before its lost jobs
// are left: GitHub re-runs nothing of a run that is not over.
const lossFor = 72 * time.Hour

// LossState is how far a lost job is.
type LossState int

// The states of a lost job.
const (
	LossSeen  LossState = iota // its run is to end
	LossAsked                  // GitHub is being asked to run it again
	LossRerun                  // GitHub does
	LossLeft                   // nobody does, for the reason in Note
)

var lossNames = [...]string{"lost", "asked", "rerun", "left"}

func (s LossState) String() string { return word(lossNames[:], int(s)) }

// Loss is a job that failed because infrastructure lost it.
type Loss struct {
	Job     JobID
	Repo    string
	Run     int64
	Attempt int
	Pool    string
	Why     string    // what the evidence is
	At      time.Time // when GitHub gave it up
	State   LossState
	Tries   int       // looks at its run
	Next    time.Time // of the next one
	Note    string    // why it is left, or waits
}

// Lost says by what evidence infrastructure lost a job that ran on r; empty: it
// did not. down is since when the cluster does not see r's node. A job that
// succeeded, was cancelled, or was given up by us is not lost, and one that
// failed by itself told so before its container died. One that stops its own
// container looks lost: how often it is run again is bounded by the pool.
func (r *Runner) Lost(j *Job, down time.Time) string {
	ours := !r.Spent.IsZero() && (r.Ended.IsZero() || r.Spent.Before(r.Ended))
	dead := func(since time.Time) bool { return !since.IsZero() && !j.Ended.Before(since.Add(Deaf)) }
	switch {
	case j.Status != Completed || j.Conclusion != "failure" || j.Ended.IsZero() || j.ID == 0 || r.Job != j.ID || ours:
		return ""
	case dead(r.Ended):
		return fmt.Sprintf("container %d on %s had stopped %s before GitHub gave the job up", r.VMID, r.Node, j.Ended.Sub(r.Ended).Round(time.Second))
	// An end that was noted while the node was down is GitHub's word, not the
	// container's.
	case (r.Ended.IsZero() || !r.Ended.Before(down)) && r.Container == Unseen && dead(down):
		return fmt.Sprintf("node %s had been down for %s when GitHub gave the job up", r.Node, j.Ended.Sub(down).Round(time.Second))
	case dead(r.Silent):
		return fmt.Sprintf("GitHub had heard nothing of container %d on %s for %s when it gave the job up: %s",
			r.VMID, r.Node, j.Ended.Sub(r.Silent).Round(time.Second), CutOff)
	}
	return ""
}

// Rerun is a run whose lost jobs are to be looked after now.
type Rerun struct {
	Repo    string
	Run     int64
	Attempt int
	Jobs    []JobID // lost
}

// Reruns lists the runs to look after now, the oldest first, and when to ask
// again at the latest.
func Reruns(losses []Loss, now time.Time) (due []Rerun, next time.Time) {
	for _, l := range losses {
		of := func(r Rerun) bool { return r.Repo == l.Repo && r.Run == l.Run && r.Attempt == l.Attempt }
		switch {
		case l.State > LossAsked || slices.ContainsFunc(due, of):
		case now.Before(l.Next):
			next = earlier(next, l.Next)
		default:
			due = append(due, l.rerun(losses))
		}
	}
	return due, next
}

// rerun is the loss with all others of its run: they are run again together.
func (l Loss) rerun(losses []Loss) Rerun {
	r := Rerun{Repo: l.Repo, Run: l.Run, Attempt: l.Attempt}
	for _, o := range losses {
		if o.State <= LossAsked && o.Repo == l.Repo && o.Run == l.Run && o.Attempt == l.Attempt {
			r.Jobs = append(r.Jobs, o.Job)
		}
	}
	return r
}

// Budget says why a loss is not run again as far as the pools and what was run
// again before say; empty: it may be.
func (l Loss) Budget(want Desired, losses []Loss) string {
	i := slices.IndexFunc(want.Pools, func(q Pool) bool { return q.Name == l.Pool })
	if i < 0 {
		return fmt.Sprintf("pool %s is gone", l.Pool)
	}
	most := want.Pools[i].Reruns
	attempts := map[int]bool{}
	for _, o := range losses {
		if o.Repo == l.Repo && o.Run == l.Run && o.State == LossRerun {
			attempts[o.Attempt] = true
		}
	}
	switch {
	case most == 0:
		return fmt.Sprintf("pool %s runs no lost jobs again (retry.lost_jobs)", l.Pool)
	case len(attempts) >= most:
		return fmt.Sprintf("lost jobs of this run were run again %d times, as often as pool %s allows", len(attempts), l.Pool)
	}
	return ""
}

// RunState is a workflow run as GitHub tells of it.
type RunState struct {
	Over    bool
	Attempt int
	Jobs    []Job // of the latest attempt
}

// Choice is what is done about the lost jobs of a run.
type Choice int

// What may be done.
const (
	RerunLater Choice = iota // the run goes on
	RerunJob                 // the one lost job
	RerunAll                 // all failed jobs: the lost ones are all that failed
	RerunNever               // for the reason told
	RerunDone                // it was run again already
)

// Choose decides what is done about the lost jobs of a run. Others than these
// are never run again: GitHub runs one job again, or all that failed.
func (r Rerun) Choose(s RunState, asked bool) (Choice, string) {
	lost := func(j Job) bool { return slices.Contains(r.Jobs, j.ID) }
	failed := func(j Job) bool {
		return j.Conclusion != "success" && j.Conclusion != "skipped" && j.Conclusion != "neutral" && j.Conclusion != ""
	}
	others := slices.ContainsFunc(s.Jobs, func(j Job) bool { return failed(j) && !lost(j) })
	switch {
	case s.Attempt > r.Attempt && asked:
		return RerunDone, "" // the answer was lost, the effect was not
	case s.Attempt > r.Attempt:
		return RerunNever, "somebody else ran its run again"
	case !s.Over:
		return RerunLater, "its run goes on"
	case len(r.Jobs) == 1:
		return RerunJob, ""
	case others:
		return RerunNever, "GitHub runs one job again or all that failed, and of this run other jobs failed too"
	}
	return RerunAll, ""
}

// Look is the loss after one more look at its run, which said why it waits.
func (l Loss) Look(now time.Time, note string) Loss {
	l.Tries++
	l.Note = note
	l.Next = now.Add(Retry{Min: time.Minute, Max: 15 * time.Minute}.Delay(l.Tries, uint64(l.Job)))
	if now.Sub(l.At) >= lossFor {
		l.State, l.Note = LossLeft, cmp.Or(note, "GitHub could not be asked")+" since "+clock(l.At)
	}
	return l
}

// Words says what becomes of the loss.
func (l Loss) Words() string {
	switch l.State {
	case LossRerun:
		return "infrastructure lost it: " + l.Why + "; GitHub was asked to run it again"
	case LossLeft:
		return "infrastructure lost it: " + l.Why + "; it is not run again: " + l.Note
	}
	return "infrastructure lost it: " + l.Why + "; it is run again once its run is over"
}

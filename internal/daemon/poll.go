package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// lookAtJobs asks for all queued and running jobs of a scope, so that a lost
// webhook costs latency only. What it finds counts at once; that it found all
// there is, only if no repository was left out.
func (d *Daemon) lookAtJobs(ctx context.Context, scope fleet.Scope) error {
	if d.thrifty(scope) {
		d.report(ctx, jobsOf+string(scope), fmt.Errorf("jobs of %s: %w", scope, errThrifty))
		return nil
	}
	began := time.Now()
	repos, err := d.cfg.GitHub.Repositories(ctx, scope)
	left := 0
	for i, repo := range repos {
		e := d.lookAtRepo(ctx, repo, began)
		if e == nil {
			continue
		}
		if left++; err == nil {
			err = e
		}
		if errors.Is(e, fleet.ErrUnavailable) || ctx.Err() != nil {
			left += len(repos) - i - 1 // the others would fare no better
			break
		}
	}
	if left > 1 {
		err = fmt.Errorf("%w (and %d more repositories)", err, left-1)
	}
	d.reportGitHub(ctx, jobsOf+string(scope), err)
	if err != nil {
		return err
	}
	d.inbox.post(func(s *state) {
		ev := s.evidence[scope]
		ev.Jobs = began
		s.evidence[scope] = ev
	})
	return d.lookAtStrays(ctx, scope, repos)
}

// lookAtRepo asks for a repository's jobs. Open ones that are in no list any
// more are asked for one by one: they have ended without our hearing of it.
func (d *Daemon) lookAtRepo(ctx context.Context, repo string, began time.Time) error {
	jobs, err := d.cfg.GitHub.Jobs(ctx, repo) // with an error, those before it
	if err == nil {
		var ended []fleet.Job
		ended, err = d.missing(ctx, repo, jobs, began)
		jobs = append(jobs, ended...)
	}
	return errors.Join(err, d.recordJobs(ctx, began, jobs))
}

func (d *Daemon) missing(ctx context.Context, repo string, jobs []fleet.Job, began time.Time) ([]fleet.Job, error) {
	seen := map[fleet.JobID]bool{}
	for _, j := range jobs {
		seen[j.ID] = true
	}
	var found []fleet.Job
	for _, j := range d.cfg.Journal.OpenJobs() {
		if !strings.EqualFold(j.Repo, repo) || seen[j.ID] || j.Created.After(began) {
			continue
		}
		now, err := d.lookAtJob(ctx, j)
		if err != nil {
			return found, err
		}
		found = append(found, now)
	}
	return found, nil
}

// lookAtStrays asks for the open jobs of repositories that the installation no
// longer has: nobody will tell us of their end, and they must not be demand
// for ever.
func (d *Daemon) lookAtStrays(ctx context.Context, scope fleet.Scope, repos []string) error {
	began := time.Now()
	known := map[string]bool{}
	for _, repo := range repos {
		known[strings.ToLower(repo)] = true
	}
	var found []fleet.Job
	for _, j := range d.cfg.Journal.OpenJobs() {
		if !scope.Covers(j.Repo) || known[strings.ToLower(j.Repo)] {
			continue
		}
		now, err := d.lookAtJob(ctx, j)
		if errors.Is(err, fleet.ErrDenied) {
			continue
		}
		if err != nil {
			return errors.Join(err, d.recordJobs(ctx, began, found))
		}
		found = append(found, now)
	}
	return d.recordJobs(ctx, began, found)
}

// lookAtJob asks for one job. One that GitHub does not know is over, unless a
// container may still run it: GitHub answers 404 also to who may not know, and
// a live job is not given up for that.
func (d *Daemon) lookAtJob(ctx context.Context, j fleet.Job) (fleet.Job, error) {
	now, err := d.cfg.GitHub.Job(ctx, j.Repo, j.ID)
	if !errors.Is(err, fleet.ErrNotFound) {
		return now, err
	}
	alive, err := ask(ctx, d, func(s *state) bool { return s.alive(j) })
	if err == nil && !alive {
		j.Status, j.Conclusion, j.Ended = fleet.Completed, "deleted", time.Now()
	}
	return j, err
}

// alive reports whether a container of ours may run the job.
func (s *state) alive(j fleet.Job) bool {
	r := s.runners[j.Runner]
	return j.Status == fleet.InProgress && r != nil && r.Ended.IsZero() && r.Container != fleet.Absent
}

// recordJobs writes what a poll saw and tells the loop.
func (d *Daemon) recordJobs(ctx context.Context, at time.Time, jobs []fleet.Job) error {
	if len(jobs) == 0 {
		return nil
	}
	changed, err := d.cfg.Journal.Record(ctx, "poll", at, jobs)
	if err != nil && ctx.Err() == nil {
		d.journalFailed(err)
		err = fmt.Errorf("%w: %w", errUnwritten, err)
	}
	if changed > 0 {
		d.inbox.post(func(s *state) {
			for _, j := range jobs {
				d.jobSeen(s, j)
			}
		})
	}
	return err
}

var errThrifty = errors.New("less than a tenth of GitHub's quota is left: they are not polled until it is renewed, so that it lasts for JIT configs")

// thrifty reports whether too little of GitHub's quota is left to poll jobs of
// a scope: what is left is for JIT configs.
func (d *Daemon) thrifty(scope fleet.Scope) bool {
	l, seen := d.cfg.GitHub.Quota(scope)
	return seen && l.Remaining*10 < l.Limit && time.Now().Before(l.Reset)
}

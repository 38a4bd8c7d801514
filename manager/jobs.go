package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// jobsQuery is which jobs to list.
type jobsQuery struct {
	repo, status string
	limit        int
	follow       bool
}

func (p *program) jobsCommand() *cobra.Command {
	var q jobsQuery
	cmd := p.asks(p.reads(&cobra.Command{
		Use:   "jobs",
		Short: "list jobs, newest first",
		Long: `List jobs, newest first.

With --follow, print a line for every job that appears or changes, until
interrupted; with --json too, one JSON object a line.`,
		Example: "  dayfly jobs --status queued\n  dayfly jobs --repo acme/app --follow",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := q.check(); err != nil {
				return misuse(cmd, err)
			}
			if q.follow {
				return p.followJobs(cmd.Context(), q)
			}
			jobs, err := daemon.Dial(p.socket).Jobs(cmd.Context(), q.repo, q.status, q.limit)
			if err != nil {
				return err
			}
			return p.printJobs(jobs, time.Now())
		},
	}))
	cmd.Flags().StringVar(&q.repo, "repo", "", "only jobs of this repository, `OWNER/NAME`")
	cmd.Flags().StringVar(&q.status, "status", "", "only jobs in this `STATUS`: waiting, queued, in_progress or completed")
	cmd.Flags().IntVar(&q.limit, "limit", 50, "list at most `N`")
	cmd.Flags().BoolVar(&q.follow, "follow", false, "go on printing jobs as they appear and change")
	return cmd
}

func (q jobsQuery) check() error {
	if s, ok := fleet.ParseStatus(q.status); q.status != "" && (!ok || s.String() != q.status) {
		return fmt.Errorf("--status %q: want waiting, queued, in_progress or completed", q.status)
	}
	if owner, name, ok := strings.Cut(q.repo, "/"); q.repo != "" && (!ok || owner == "" || name == "" || strings.Contains(name, "/")) {
		return fmt.Errorf("--repo %q: want OWNER/NAME", q.repo)
	}
	if q.limit < 1 || q.limit > 1000 {
		return fmt.Errorf("--limit %d: want 1 to 1000", q.limit)
	}
	return nil
}

func (p *program) printJobs(jobs []daemon.JobStatus, now time.Time) error {
	if p.json {
		if jobs == nil {
			jobs = []daemon.JobStatus{}
		}
		return writeJSON(p.out, jobs)
	}
	if len(jobs) == 0 {
		_, err := fmt.Fprintln(p.out, "no jobs")
		return err
	}
	t := newTable("job", "repo", "name", "status", "for", "runner", "labels")
	for _, j := range jobs {
		t.row(strconv.FormatInt(j.ID, 10), j.Repo, j.Name, state(j), lasted(j, now), j.Runner, strings.Join(j.Labels, " "))
	}
	return t.write(p.out, styleOf(p.out))
}

// state is a job's status, or how it ended.
func state(j daemon.JobStatus) string { return cmp.Or(j.Conclusion, j.Status) }

// lasted is how long a job has been in its status: a completed one, how long
// it ran.
func lasted(j daemon.JobStatus, now time.Time) string {
	switch {
	case !j.Ended.IsZero() && !j.Started.IsZero():
		return age(j.Ended.Sub(j.Started))
	case !j.Ended.IsZero():
		return "" // it never ran
	case !j.Started.IsZero():
		return age(now.Sub(j.Started))
	case !j.Created.IsZero():
		return age(now.Sub(j.Created))
	}
	return ""
}

// followEvery is how often the daemon is asked while following.
const followEvery = time.Second

// followJobs prints jobs as they appear and change, until ctx ends. A daemon
// that stops is waited for: it is being restarted.
func (p *program) followJobs(ctx context.Context, q jobsQuery) error {
	client := daemon.Dial(p.socket)
	f := follower{
		list: func() ([]daemon.JobStatus, error) { return client.Jobs(ctx, q.repo, q.status, 1000) },
		show: p.showJob,
		lost: func(err error) { fmt.Fprintf(p.err, "dayfly: %v; waiting for it\n", err) },
	}
	return f.run(ctx)
}

// showJob prints one job that changed.
func (p *program) showJob(j daemon.JobStatus) error {
	if p.json {
		return json.NewEncoder(p.out).Encode(j)
	}
	_, err := fmt.Fprintf(p.out, "%s  %d  %s  %s  %s  %s\n", changed(j).Format(time.TimeOnly),
		j.ID, j.Repo, j.Name, state(j), cmp.Or(j.Runner, "-"))
	return err
}

// changed is when a job came into its status.
func changed(j daemon.JobStatus) time.Time {
	for _, at := range []time.Time{j.Ended, j.Started} {
		if !at.IsZero() {
			return at.Local()
		}
	}
	return j.Created.Local()
}

// follower tells the changes between listings.
type follower struct {
	list func() ([]daemon.JobStatus, error)
	show func(daemon.JobStatus) error
	lost func(error) // the daemon went away; once each time
	seen map[int64]string
	away bool
}

// run lists until ctx ends. The first listing must work: a daemon that was
// never there is an error.
func (f *follower) run(ctx context.Context) error {
	f.seen = map[int64]string{}
	if err := f.look(); err != nil {
		return err
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := f.look()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, daemon.ErrNoDaemon) {
			return err
		}
		if err != nil && !f.away {
			f.lost(err)
		}
		f.away = err != nil
	}
}

// look shows, oldest first, the jobs whose status or runner is new.
func (f *follower) look() error {
	jobs, err := f.list()
	if err != nil {
		return err
	}
	for _, j := range slices.Backward(jobs) {
		mark := strings.Join([]string{j.Status, j.Conclusion, j.Runner}, " ")
		if f.seen[j.ID] == mark {
			continue
		}
		f.seen[j.ID] = mark
		if err := f.show(j); err != nil {
			return err
		}
	}
	return nil
}

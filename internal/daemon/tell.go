package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/github"
	"github.com/dayfly-ci/dayfly/internal/pools"
)

// Reports says where the pools come from, if that is a repository at GitHub:
// what becomes of its commits is told beside them, as far as the App may.
type Reports struct {
	Repo string // "acme/pools"; empty: nothing is told
	Path string // of the pool files in it
}

// telling is one thing to tell GitHub.
type telling struct {
	what string // "commit statuses of acme/pools": what is off when it is denied
	do   func(context.Context) error
}

// maxTellings bounds what waits to be told. It is courtesy: what is too much
// is left out, and nothing waits for it.
const maxTellings = 64

// tell has something told, after what waits already.
func (d *Daemon) tell(what string, do func(context.Context) error) {
	select {
	case d.tellings <- telling{what, do}:
	default:
		d.log.Warn("too much to tell GitHub, left out", "what", what)
	}
}

// teller tells one thing after the other until ctx ends.
func (d *Daemon) teller(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-d.tellings:
			d.telling(ctx, t)
		}
	}
}

// tries are how often a telling is tried.
const tries = 3

func (d *Daemon) telling(ctx context.Context, t telling) {
	again := fleet.Retry{Min: 5 * time.Second, Max: time.Minute}
	for try := 1; ; try++ {
		bound, cancel := context.WithTimeout(ctx, lookBound)
		err := t.do(bound)
		cancel()
		if errors.Is(err, fleet.ErrUnavailable) && try < tries && ctx.Err() == nil {
			sleep(ctx, again.Delay(try, uint64(try)))
			continue
		}
		if ctx.Err() == nil {
			d.inbox.post(func(s *state) { s.told[t.what] = err })
		}
		if err != nil {
			d.log.Warn("not told at GitHub", "what", t.what, "err", err)
		}
		return
	}
}

// commitForm is a commit's id: a folder's revision has nothing beside it.
var commitForm = regexp.MustCompile(`^[0-9a-f]{40}$`)

// tells reports whether there is something beside a revision.
func (d *Daemon) tells(revision string) bool {
	return d.cfg.Reports.Repo != "" && commitForm.MatchString(revision)
}

// The contexts of statuses, and the names of checks.
const (
	poolsContext = "dayfly/pools"
	planCheck    = "dayfly/plan"
	accessCheck  = "dayfly/access"
	statusesOf   = "commit statuses of "
	checksOf     = "check runs of "
)

// tellInForce sets the status of a commit that came into force.
func (d *Daemon) tellInForce(set pools.Set) {
	if !d.tells(set.Revision) {
		return
	}
	text := fmt.Sprintf("in force: %d pools", len(set.Desired.Pools))
	if set.Signer != "" {
		text += ", signed by " + set.Signer
	}
	d.tellStatus(github.CommitStatus{Commit: set.Revision, Context: poolsContext, State: github.StateSuccess, Text: text})
}

// tellRefused sets the status of a commit that is refused, and notes what is
// wrong at its lines.
func (d *Daemon) tellRefused(invalid *pools.Invalid) {
	if !d.tells(invalid.Revision) {
		return
	}
	report := invalid.Diagnostics.Report()
	text := "refused"
	if len(report.Diagnostics) > 0 {
		text += ": " + report.Diagnostics[0].Summary + ": " + report.Diagnostics[0].Detail
	}
	d.tellStatus(github.CommitStatus{Commit: invalid.Revision, Context: poolsContext, State: github.StateFailure, Text: text})
	d.tellCheck(d.cfg.Reports.Repo, d.checkOf(poolsContext, invalid.Revision, report, "The pools in force stay as they are: "+d.state.stays()+"."))
}

func (d *Daemon) tellStatus(s github.CommitStatus) {
	repo := d.cfg.Reports.Repo
	d.tell(statusesOf+repo, func(ctx context.Context) error { return d.cfg.GitHub.PostStatus(ctx, repo, s) })
}

func (d *Daemon) tellCheck(repo string, run github.CheckRun) {
	d.tell(checksOf+repo, func(ctx context.Context) error { return d.cfg.GitHub.PostCheck(ctx, repo, run) })
}

// checkOf is a check run of diagnostics.
func (d *Daemon) checkOf(name, commit string, report pools.Report, summary string) github.CheckRun {
	run := github.CheckRun{Commit: commit, Name: name, Conclusion: "success", Title: "valid"}
	if report.WarningCount > 0 {
		run.Title = fmt.Sprintf("valid, warnings: %d", report.WarningCount)
	}
	if !report.Valid {
		run.Conclusion, run.Title = "failure", fmt.Sprintf("refused, errors: %d", report.ErrorCount)
	}
	for _, diag := range report.Diagnostics {
		if diag.Range == nil {
			summary += fmt.Sprintf("\n\n**%s**: %s", diag.Summary, diag.Detail)
			continue
		}
		at := diag.Range
		run.Notes = append(run.Notes, github.Note{
			Path: path.Join(d.cfg.Reports.Path, at.Filename), Line: at.Start.Line, EndLine: max(at.Start.Line, at.End.Line),
			Column: at.Start.Column, EndColumn: at.End.Column, Warning: diag.Severity != "error",
			Title: diag.Summary, Text: cmp.Or(diag.Detail, diag.Summary),
		})
	}
	run.Summary = summary
	return run
}

// propose looks at a commit that is not to come into force yet, and tells what
// it would mean: of a branch of the repository itself, that and what is wrong;
// of a fork, only whether it can be read.
func (d *Daemon) propose(revision, commit string, fork bool) {
	if !d.tells(commit) {
		return
	}
	repo := d.cfg.Reports.Repo
	d.tell(checksOf+repo, func(ctx context.Context) error {
		p, err := d.foreseeRevision(ctx, revision)
		if err != nil || p.Proposed != commit {
			return err // it was moved since: that is another delivery
		}
		summary := "What a fork proposes is only read."
		if !fork {
			summary = p.markdown()
		}
		return d.cfg.GitHub.PostCheck(ctx, repo, d.checkOf(planCheck, commit, p.Report, summary))
	})
}

// ReportStatus is one thing that is told at GitHub, and why not, if so.
type ReportStatus struct {
	What string `json:"what"`
	Off  string `json:"off,omitempty"`
}

func (s *state) reports() []ReportStatus {
	list := []ReportStatus{}
	for _, what := range slices.Sorted(maps.Keys(s.told)) {
		r := ReportStatus{What: what}
		if err := s.told[what]; err != nil {
			r.Off = err.Error()
		}
		list = append(list, r)
	}
	return list
}

// tellJobs tells beside the commits of jobs that no pool runs because of its
// access rules, once of each run.
func (d *Daemon) tellJobs() {
	s := &d.state
	refused := map[run]bool{}
	jobs := d.cfg.Journal.OpenJobs()
	for i := range jobs {
		j := &jobs[i]
		key := run{j.Repo, j.Run}
		if j.Status != fleet.Queued || j.Origin.Commit == "" {
			continue
		}
		why := fleet.RefusedBy(s.desired, j)
		if why == "" {
			continue
		}
		refused[key] = true
		if !s.refusals[key] {
			d.tellCheck(j.Repo, github.CheckRun{
				Commit: j.Origin.Commit, Name: accessCheck, Conclusion: "neutral", Title: "not run here",
				Summary: fmt.Sprintf("Job %q of this commit stays queued: %s.", j.Name, why),
			})
		}
	}
	s.refusals = refused
}

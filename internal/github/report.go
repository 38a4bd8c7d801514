package github

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/go-github/v62/github"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// State is what a commit's status says.
type State string

// The states.
const (
	StateSuccess State = "success"
	StateFailure State = "failure"
)

// CommitStatus is a line beside a commit.
type CommitStatus struct {
	Commit  string
	Context string // what it is about; a later status of the same context replaces it
	State   State
	Text    string // cut to what GitHub takes
}

// CheckRun is a page about a commit, with notes at its lines.
type CheckRun struct {
	Commit     string
	Name       string
	Conclusion string // "success", "failure" or "neutral"
	Title      string
	Summary    string // Markdown
	Notes      []Note // those over fifty are left out
}

// Note is shown at lines of a file.
type Note struct {
	Path              string // from the top of the repository
	Line, EndLine     int
	Column, EndColumn int
	Warning           bool // else a failure
	Title, Text       string
}

// GitHub's limits: of a status' description, of a check run's summary, and of
// the annotations in one request.
const (
	maxStatus  = 140
	maxSummary = 65_535
	maxNotes   = 50
)

// PostStatus needs the permission statuses: write on the repository. It is
// fleet.ErrDenied without.
func (c *Client) PostStatus(ctx context.Context, repo string, s CommitStatus) error {
	err := c.tell(ctx, repo, writeStatuses, func(ctx context.Context, owner, name string) error {
		state, text := string(s.State), cut(s.Text, maxStatus)
		_, _, err := c.gh.Repositories.CreateStatus(ctx, owner, name, s.Commit, &github.RepoStatus{
			State: &state, Context: &s.Context, Description: &text,
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("set status of %s in %s: %w", s.Commit, repo, err)
	}
	return nil
}

// PostCheck needs the permission checks: write on the repository. It is
// fleet.ErrDenied without.
func (c *Client) PostCheck(ctx context.Context, repo string, run CheckRun) error {
	done, summary := "completed", cut(run.Summary, maxSummary)
	output := &github.CheckRunOutput{Title: &run.Title, Summary: &summary}
	for _, n := range run.Notes[:min(len(run.Notes), maxNotes)] {
		output.Annotations = append(output.Annotations, n.annotation())
	}
	err := c.tell(ctx, repo, writeChecks, func(ctx context.Context, owner, name string) error {
		_, _, err := c.gh.Checks.CreateCheckRun(ctx, owner, name, github.CreateCheckRunOptions{
			Name: run.Name, HeadSHA: run.Commit, Status: &done, Conclusion: &run.Conclusion, Output: output,
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("post check %s of %s in %s: %w", run.Name, run.Commit, repo, err)
	}
	return nil
}

// annotation is the note as GitHub takes it: columns are for a single line.
func (n Note) annotation() *github.CheckRunAnnotation {
	level := "failure"
	if n.Warning {
		level = "warning"
	}
	a := &github.CheckRunAnnotation{
		Path: &n.Path, StartLine: &n.Line, EndLine: &n.EndLine, AnnotationLevel: &level, Title: &n.Title, Message: &n.Text,
	}
	if n.Line == n.EndLine {
		a.StartColumn, a.EndColumn = &n.Column, &n.EndColumn
	}
	return a
}

// tell runs a call that writes beside a commit of one repository. A repository
// that the App is not installed on is as good as one without the permission.
func (c *Client) tell(ctx context.Context, repo string, want need, use func(ctx context.Context, owner, name string) error) error {
	scope := fleet.Scope(repo)
	if !scope.Repo() {
		return fmt.Errorf("repository %q: want owner/name: %w", repo, fleet.ErrInvalid)
	}
	owner, name := split(scope)
	return c.as(ctx, scope, post, want, func(ctx context.Context) error { return use(ctx, owner, name) })
}

// cut shortens a text to so many bytes, at a character.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len("…")], "") + "…"
}

package hub

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
)

// Told is a status or a check run beside a commit.
type Told struct {
	Repo    string
	Commit  string
	Check   bool   // else a status
	Name    string // of the check, or the status' context
	State   string // of the status, or the check's conclusion
	Text    string // the status' description, or the check's title
	Summary string
	Notes   []Annotation
}

// Annotation is a note of a check run.
type Annotation struct {
	Path        string `json:"path"`
	StartLine   int    `json:"start_line"`
	EndLine     int    `json:"end_line"`
	StartColumn int    `json:"start_column"`
	EndColumn   int    `json:"end_column"`
	Level       string `json:"annotation_level"`
	Title       string `json:"title"`
	Message     string `json:"message"`
}

// Told lists the statuses and check runs, oldest first.
func (h *Hub) Told() []Told {
	h.enter()
	defer h.leave()
	return slices.Clone(h.told)
}

var commitForm = regexp.MustCompile(`^[0-9a-f]{40}$`)

// createStatus is POST /repos/{owner}/{repo}/statuses/{sha}. That the commit is
// there is not looked at: the hub keeps no repositories' contents.
func (h *Hub) createStatus(c *call) answer {
	var req struct {
		State       string `json:"state"`
		Context     string `json:"context"`
		Description string `json:"description"`
	}
	sha := c.r.PathValue("sha")
	switch {
	case json.Unmarshal(c.body, &req) != nil:
		return badJSON()
	case !commitForm.MatchString(sha):
		return fail(http.StatusUnprocessableEntity, "No commit found for SHA: %s", sha)
	case !slices.Contains([]string{"error", "failure", "pending", "success"}, req.State), len([]rune(req.Description)) > 140:
		return fail(http.StatusUnprocessableEntity, "Validation Failed")
	}
	h.told = append(h.told, Told{Repo: c.repo.full, Commit: sha, Name: req.Context, State: req.State, Text: req.Description})
	return created(map[string]any{
		"id": h.number(), "state": req.State, "context": req.Context, "description": req.Description, "created_at": stamp(h.clock.Now()),
	})
}

// createCheck is POST /repos/{owner}/{repo}/check-runs.
func (h *Hub) createCheck(c *call) answer {
	var req struct {
		Name       string `json:"name"`
		HeadSHA    string `json:"head_sha"`
		Status     string `json:"status"`
		Conclusion string `json:"conclusion"`
		Output     struct {
			Title       string       `json:"title"`
			Summary     string       `json:"summary"`
			Annotations []Annotation `json:"annotations"`
		} `json:"output"`
	}
	conclusions := []string{"success", "failure", "neutral", "cancelled", "skipped", "timed_out", "action_required"}
	switch {
	case json.Unmarshal(c.body, &req) != nil:
		return badJSON()
	case req.Name == "", req.Status == "completed" && !slices.Contains(conclusions, req.Conclusion),
		req.Output.Title == "", req.Output.Summary == "", len(req.Output.Summary) > 65535, len(req.Output.Annotations) > 50:
		return fail(http.StatusUnprocessableEntity, "Validation Failed")
	case !commitForm.MatchString(req.HeadSHA):
		return fail(http.StatusUnprocessableEntity, "No commit found for SHA: %s", req.HeadSHA)
	}
	for _, a := range req.Output.Annotations {
		if !a.valid() {
			return fail(http.StatusUnprocessableEntity, "Invalid request: an annotation is not as it should be.")
		}
	}
	h.told = append(h.told, Told{
		Repo: c.repo.full, Commit: req.HeadSHA, Check: true, Name: req.Name, State: req.Conclusion,
		Text: req.Output.Title, Summary: req.Output.Summary, Notes: req.Output.Annotations,
	})
	return created(map[string]any{
		"id": h.number(), "head_sha": req.HeadSHA, "name": req.Name, "status": req.Status, "conclusion": req.Conclusion,
	})
}

// valid holds an annotation to GitHub's description: columns are for notes of
// one line, and lines begin at one.
func (a Annotation) valid() bool {
	columns := a.StartColumn != 0 || a.EndColumn != 0
	return a.Path != "" && a.StartLine >= 1 && a.EndLine >= a.StartLine && a.Message != "" &&
		slices.Contains([]string{"notice", "warning", "failure"}, a.Level) && (!columns || a.StartLine == a.EndLine)
}

package github

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/google/go-github/v62/github"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// What is wrong with a webhook, for errors.Is.
var (
	ErrSignature = errors.New("bad signature")
	ErrMalformed = errors.New("malformed")
)

// Delivery is one webhook delivery.
type Delivery struct {
	GUID         string // the same when GitHub delivers it again
	Event        string // "workflow_job", "push", "ping", …
	Action       string
	Installation int64      // 0 when the App's id is not in the payload
	Repo         string     // "acme/app"; empty for events of an account
	Job          *fleet.Job // nil when not a workflow_job
	Push         *Push      // nil when not a push
	Pull         *Pull      // nil when not of a pull request's commits
}

// Push is what a push event says: enough to look at the repository again, its
// content is not to be trusted for more.
type Push struct {
	Ref    string // "refs/heads/main"
	Commit string // after the push; forty zeros when the ref was deleted
}

// Pull is what a pull_request event says when there are commits to look at.
type Pull struct {
	Number int
	Commit string // at its head
	Fork   bool   // it is another repository's
}

// ParseWebhook verifies and reads a delivery. The signature is checked first,
// over the raw bytes, in constant time, and only in its SHA-256 form: go-github
// takes an unsigned body when the secret is empty and falls back to SHA-1.
// The caller bounds the body.
func ParseWebhook(secret fleet.Secret, header http.Header, body []byte) (Delivery, error) {
	if err := verify(secret, header.Get("X-Hub-Signature-256"), body); err != nil {
		return Delivery{}, fmt.Errorf("webhook: %w", err)
	}
	if kind, _, _ := mime.ParseMediaType(header.Get("Content-Type")); kind == "application/x-www-form-urlencoded" {
		return Delivery{}, fmt.Errorf("webhook: content type %s, want application/json: set it in the App's webhook settings: %w", kind, ErrMalformed)
	}
	d, err := parseDelivery(header.Get("X-GitHub-Delivery"), header.Get("X-GitHub-Event"), body)
	if err != nil {
		return Delivery{}, fmt.Errorf("webhook: %w", err)
	}
	return d, nil
}

func verify(secret fleet.Secret, signature string, body []byte) error {
	if secret.Empty() {
		return fmt.Errorf("%w: no secret is configured", ErrSignature)
	}
	if signature == "" {
		return fmt.Errorf("%w: the header X-Hub-Signature-256 is missing: has the App's webhook a secret?", ErrSignature)
	}
	text, ok := strings.CutPrefix(signature, "sha256=")
	if !ok {
		return fmt.Errorf("%w: the header X-Hub-Signature-256 does not begin with sha256=", ErrSignature)
	}
	got, err := hex.DecodeString(text)
	if err != nil || len(got) != sha256.Size {
		return fmt.Errorf("%w: the header X-Hub-Signature-256 has no %d hexadecimal digits after sha256=", ErrSignature, 2*sha256.Size)
	}
	mac := hmac.New(sha256.New, []byte(secret.Reveal()))
	mac.Write(body)
	if !hmac.Equal(mac.Sum(nil), got) {
		return fmt.Errorf("%w: the body was not signed with our secret: has the App's webhook another one?", ErrSignature)
	}
	return nil
}

// payload is what all events have in common, and the job of one.
type payload struct {
	Action       string `json:"action"`
	Installation struct {
		ID int64 `json:"id"`
	} `json:"installation"`
	Repository  repository          `json:"repository"`
	WorkflowJob *github.WorkflowJob `json:"workflow_job"`
}

func parseDelivery(guid, event string, body []byte) (Delivery, error) {
	switch {
	case guid == "":
		return Delivery{}, fmt.Errorf("header X-GitHub-Delivery: missing: %w", ErrMalformed)
	case event == "":
		return Delivery{}, fmt.Errorf("header X-GitHub-Event: missing: %w", ErrMalformed)
	}
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return Delivery{}, fmt.Errorf("%s: %s: %w", event, where(err), ErrMalformed)
	}
	d := Delivery{GUID: guid, Event: event, Action: p.Action, Installation: p.Installation.ID, Repo: p.Repository.FullName}
	switch event {
	case "workflow_job":
		job, err := p.job()
		if err != nil {
			return Delivery{}, err
		}
		d.Job = &job
	case "push":
		push, err := parsePush(body)
		if err != nil {
			return Delivery{}, err
		}
		d.Push = &push
	case "pull_request":
		d.Pull = parsePull(body, d.Action, d.Repo)
	}
	return d, nil
}

// parsePull reads a pull request of which the commits are new.
func parsePull(body []byte, action, repo string) *Pull {
	var p struct {
		Number int `json:"number"`
		Pull   struct {
			Head struct {
				SHA  string `json:"sha"`
				Repo *struct {
					FullName string `json:"full_name"`
				} `json:"repo"` // null when the fork was deleted
			} `json:"head"`
		} `json:"pull_request"`
	}
	fresh := action == "opened" || action == "reopened" || action == "synchronize"
	if err := json.Unmarshal(body, &p); err != nil || !fresh || p.Number <= 0 || p.Pull.Head.SHA == "" {
		return nil // nothing to look at: it is GitHub's affair, and no failure
	}
	head := p.Pull.Head
	return &Pull{Number: p.Number, Commit: head.SHA, Fork: head.Repo == nil || !strings.EqualFold(head.Repo.FullName, repo)}
}

func parsePush(body []byte) (Push, error) {
	var p struct {
		Ref   string `json:"ref"`
		After string `json:"after"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return Push{}, fmt.Errorf("push: %s: %w", where(err), ErrMalformed)
	}
	if p.Ref == "" {
		return Push{}, fmt.Errorf("push: ref: missing: %w", ErrMalformed)
	}
	return Push{Ref: p.Ref, Commit: p.After}, nil
}

// job reads the workflow_job by its status: an action of "queued" comes with
// the status "waiting" when the job is held for an approval.
func (p payload) job() (fleet.Job, error) {
	if p.Repository.FullName == "" {
		return fleet.Job{}, fmt.Errorf("workflow_job: repository.full_name: missing: %w", ErrMalformed)
	}
	if p.WorkflowJob == nil {
		return fleet.Job{}, fmt.Errorf("workflow_job: missing: %w", ErrMalformed)
	}
	job, err := fleetJob(p.WorkflowJob, p.Repository.FullName)
	if err == nil {
		job.Origin = p.Repository.origin(p.WorkflowJob)
	}
	return job, err
}

// where words a JSON error without repeating the payload.
func where(err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("not JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind) && kind.Field == "":
		return "want an object, found " + kind.Value
	case errors.As(err, &kind):
		return fmt.Sprintf("%s: want %v, found %s", kind.Field, kind.Type.Kind(), kind.Value)
	default:
		return clean(err.Error(), "")
	}
}

package github

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Error is GitHub's refusal of a request. errors.Is finds fleet's kind in it.
type Error struct {
	Status  int    // of the answer
	Message string // GitHub's words, redacted
	Needs   string // X-Accepted-GitHub-Permissions, for example "administration=write"
	Hint    string // what to do, where it is known

	kind error
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "GitHub answered %d", e.Status)
	if e.Message != "" {
		b.WriteString(" " + e.Message)
	}
	if e.Needs != "" {
		fmt.Fprintf(&b, " (the call needs %s)", e.Needs)
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap gives the kind.
func (e *Error) Unwrap() error { return e.kind }

// known are texts whose cause and cure are certain, found by those who run
// large fleets (Ubicloud, github_runner_nexus.rb). They are matched without
// regard to case; a nil kind keeps that of the status.
var known = []struct {
	text string
	kind error
	hint string
}{
	{"self-hosted runners are disabled", fleet.ErrDenied, "allow self-hosted runners in the Actions settings of the repository or its organisation"},
	{"github actions is disabled", fleet.ErrDenied, "enable Actions in the settings of the repository or its organisation"},
	{"ip address is not permitted", fleet.ErrDenied, "add this host's public address to the IP allow list of the organisation"},
	{"resource not accessible by integration", fleet.ErrDenied, "grant the permission to the App and accept it on the installation"},
	{"has reached max limit of", fleet.ErrUnavailable, "remove registrations that are no longer used"},
	{"suspended", fleet.ErrDenied, "unsuspend the App's installation in the settings of the account"},
	{"issued at", nil, "the clock of this host may be wrong: set it by NTP"},
	{"expiration time", nil, "the clock of this host may be wrong: set it by NTP"},
	{"could not be decoded", nil, "the private key is not one of this App's, or the App id is another's"},
	{"integration not found", nil, "check the App id"},
}

// refusal makes an error of an answer that is not a success.
func refusal(class class, status int, h http.Header, body []byte, secret string) *Error {
	e := &Error{Status: status, Message: message(body, secret), Needs: clean(h.Get("X-Accepted-GitHub-Permissions"), secret)}
	e.kind = kind(class, status)
	if e.Message == "" {
		e.Message = http.StatusText(status)
	}
	if status < 400 {
		e.Hint = "it has moved: write its present name"
	}
	low := strings.ToLower(e.Message)
	for _, k := range known {
		if status >= 400 && status < 500 && strings.Contains(low, k.text) {
			e.Hint = k.hint
			if k.kind != nil {
				e.kind = k.kind
			}
			break
		}
	}
	return e
}

func kind(class class, status int) error {
	switch {
	case status >= 500 || status == http.StatusRequestTimeout:
		return lost(class)
	case status < 400 || status == http.StatusNotFound || status == http.StatusGone:
		return fleet.ErrNotFound
	case status == http.StatusConflict:
		return fleet.ErrExists
	case status == http.StatusUnprocessableEntity && class == remove:
		return fleet.ErrBusy // its only documented 422: the runner runs a job
	case status == http.StatusUnprocessableEntity || status == http.StatusBadRequest:
		return fleet.ErrInvalid
	default:
		return fleet.ErrDenied
	}
}

// lost is what the loss of an answer means.
func lost(class class) error {
	if class.effect() {
		return fleet.ErrUnknownOutcome
	}
	return fleet.ErrUnavailable
}

// message is what GitHub says in its JSON, on one line and bounded. Anything
// else (a proxy's page, a half-sent answer) is left out: it may hold anything.
func message(body []byte, secret string) string {
	var doc struct {
		Message string `json:"message"`
		Errors  any    `json:"errors"`
	}
	if json.Unmarshal(body, &doc) != nil {
		return ""
	}
	text := doc.Message
	for _, detail := range details(doc.Errors) {
		text += ": " + detail
	}
	return clean(text, secret)
}

// details reads the "errors" of an answer: a string, or a list of strings or
// objects with a message.
func details(errs any) []string {
	switch v := errs.(type) {
	case string:
		return []string{v}
	case map[string]any:
		if s, ok := v["message"].(string); ok {
			return []string{s}
		}
	case []any:
		var all []string
		for _, one := range v {
			if _, nested := one.([]any); !nested {
				all = append(all, details(one)...)
			}
		}
		return all
	}
	return nil
}

const maxMessage = 400

func clean(text, secret string) string {
	if secret != "" {
		text = strings.ReplaceAll(text, secret, fleet.NewSecret(secret).String())
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsPrint(r) && r != ' ' {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return strings.TrimSpace(text)
}

// explainToken says what to do about a token that GitHub does not give: it
// refuses one that would allow more than the installation has.
func explainToken(err error, n need) error {
	var e *Error
	if !errors.As(err, &e) || e.Status != http.StatusUnprocessableEntity {
		return err
	}
	told := &Error{Status: e.Status, Message: e.Message, kind: fleet.ErrDenied}
	told.Hint = "grant the App " + n.words() + " and accept it on the installation"
	if strings.Contains(e.Message, "at least one repository") {
		told.kind, told.Hint = fleet.ErrNotFound, "add the repository to the App's installation"
	}
	return told
}

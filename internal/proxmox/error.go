package proxmox

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// ErrRunning is the refusal to start a container that already runs. It counts
// as success only for a caller that knows that it started it.
var ErrRunning = fmt.Errorf("already running: %w", fleet.ErrExists)

// errModified is the refusal of a change based on an old digest.
var errModified = fmt.Errorf("configuration changed meanwhile: %w", fleet.ErrLocked)

// errProtected is the refusal to destroy a protected container.
var errProtected = errors.New("protected")

// Error is one request that Proxmox refused or whose answer did not come.
// errors.Is finds its Kind, one of package fleet's.
type Error struct {
	Method string
	Path   string            // without host and query
	Status int               // 0: no answer
	Reason string            // in Proxmox's words
	Params map[string]string // reasons by parameter, of a 400
	Kind   error             // nil: none of the kinds
	Cause  error             // of a missing answer
}

func (e *Error) Error() string {
	if len(e.Params) == 0 {
		return e.Reason
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(e.Params)) {
		parts = append(parts, name+": "+e.Params[name])
	}
	return strings.TrimSuffix(e.Reason, ".") + ": " + strings.Join(parts, "; ")
}

// Unwrap gives errors.Is the kind and the cause.
func (e *Error) Unwrap() []error {
	var errs []error
	for _, err := range []error{e.Kind, e.Cause} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// refusal is the error of an answered request.
func refusal(req *http.Request, res *http.Response, body []byte) *Error {
	e := &Error{Method: req.Method, Path: req.URL.Path, Status: res.StatusCode}
	// The reason is in the status line only before pve-http-server 5.2
	// (January 2025); the body has all its lines since then.
	_, e.Reason, _ = strings.Cut(res.Status, " ")
	var answer struct {
		Message text            `json:"message"`
		Errors  map[string]text `json:"errors"`
	}
	if json.Unmarshal(body, &answer) == nil {
		if m := joinLines(string(answer.Message)); m != "" {
			e.Reason = m
		}
		for name, reason := range answer.Errors {
			if e.Params == nil {
				e.Params = map[string]string{}
			}
			e.Params[name] = joinLines(string(reason))
		}
	}
	if e.Reason == "" {
		e.Reason = fmt.Sprintf("status %d", e.Status)
	}
	e.Kind = kindOfStatus(e.Method, e.Status, e.Reason)
	return e
}

// kindOfStatus sorts answers. Proxmox's proxy answers 595 to 599 in the place
// of a daemon or node that did not: what a request changed is then unknown.
func kindOfStatus(method string, status int, reason string) error {
	read := method == http.MethodGet
	switch {
	case status == http.StatusBadRequest, status == http.StatusNotImplemented:
		return fleet.ErrInvalid
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fleet.ErrDenied
	case status == http.StatusNotFound:
		return fleet.ErrNotFound
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return fleet.ErrUnavailable // of a proxy before Proxmox, which did not pass it on
	case status == http.StatusInternalServerError:
		return kindOfText(reason)
	case status >= 500 && read:
		return fleet.ErrUnavailable
	case status >= 500:
		return fleet.ErrUnknownOutcome
	default: // a redirect, 405, 413, ...: not the API we know
		return fleet.ErrInvalid
	}
}

// texts sorts the reasons of status 500 and of failed tasks. Proxmox has no
// error codes: these are the words of pve-container, pve-guest-common,
// pve-common and pve-cluster.
var texts = []struct {
	part string
	kind error
}{
	{"CT is locked (", fleet.ErrLocked},
	{"got timeout", fleet.ErrLocked},              // can't lock file '...' - got timeout
	{"got lock request timeout", fleet.ErrLocked}, // cfs-lock '...' error
	{"locked command timed out", fleet.ErrLocked},
	{"detected modified configuration", errModified},
	{"protection mode enabled", errProtected},
	{"already running", ErrRunning},
	{"already exists", fleet.ErrExists},
	{"no quorum", fleet.ErrUnavailable},
	{"does not exist", fleet.ErrNotFound},
	{"no such cluster node", fleet.ErrNotFound},
	{"hostname lookup", fleet.ErrNotFound},
	{"interrupted by signal", fleet.ErrUnavailable}, // cleaned up by the worker
	{"unexpected status", fleet.ErrUnknownOutcome},  // the worker was killed
}

func kindOfText(reason string) error {
	for _, t := range texts {
		if strings.Contains(reason, t.part) {
			return t.kind
		}
	}
	return nil
}

func joinLines(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	for i, l := range lines {
		lines[i] = strings.TrimSpace(l)
	}
	return strings.Join(lines, "; ")
}

// unknown reports whether the effect of what failed with err may have
// happened.
func unknown(err error) bool { return errors.Is(err, fleet.ErrUnknownOutcome) }

// partly is the failure of an action that had some of its effect, or may have
// had all of it: never fleet.ErrUnavailable, which promises that it had none.
type partly struct {
	what string
	err  error
}

func (p partly) Error() string { return p.what + ": " + p.err.Error() }

// Unwrap gives errors.Is the kinds.
func (p partly) Unwrap() []error {
	if errors.Is(p.err, fleet.ErrUnavailable) {
		return []error{fleet.ErrUnknownOutcome}
	}
	return []error{fleet.ErrUnknownOutcome, p.err}
}

package proxmox

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// ticketFor is how long a ticket is used; it is valid for two hours
// (pve-access-control, AccessControl.pm).
const ticketFor = time.Hour

// session adds the ticket of a user to requests, and fetches a new one when it
// has grown old. Only a ticket makes one root@pam.
type session struct {
	next     http.RoundTripper
	base     string // https://HOST:8006/api2/json
	user     string
	password fleet.Secret

	mu     sync.Mutex
	ticket ticket
}

type ticket struct {
	Ticket string `json:"ticket"`
	CSRF   string `json:"CSRFPreventionToken"`
	NeedMF text   `json:"NeedTFA"`
	at     time.Time
}

// RoundTrip implements http.RoundTripper.
func (s *session) RoundTrip(req *http.Request) (*http.Response, error) {
	t, err := s.current(req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	req = req.Clone(req.Context())
	req.AddCookie(&http.Cookie{Name: "PVEAuthCookie", Value: url.QueryEscape(t.Ticket)})
	if req.Method != http.MethodGet {
		req.Header.Set("CSRFPreventionToken", t.CSRF)
	}
	return s.next.RoundTrip(req)
}

// CloseIdleConnections is what http.Client passes on.
func (s *session) CloseIdleConnections() { (&http.Client{Transport: s.next}).CloseIdleConnections() }

func (s *session) current(req *http.Request) (ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ticket.Ticket != "" && time.Since(s.ticket.at) < ticketFor {
		return s.ticket, nil
	}
	t, err := s.login(req)
	if err != nil {
		return ticket{}, err
	}
	s.ticket = t
	return t, nil
}

// login asks for a ticket. Its request runs under the context of the one that
// needs it, but its answer is not that one's.
func (s *session) login(cause *http.Request) (ticket, error) {
	form := url.Values{"username": {s.user}, "password": {s.password.Reveal()}}.Encode()
	ctx := context.WithValue(cause.Context(), bodyKey{}, nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/access/ticket", strings.NewReader(form))
	if err != nil {
		return ticket{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := s.next.RoundTrip(req)
	if err != nil {
		return ticket{}, s.refused(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	var answer struct {
		Data ticket `json:"data"`
	}
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	switch {
	case err != nil || answer.Data.Ticket == "":
		return ticket{}, s.refused(&Error{Method: req.Method, Path: "/access/ticket", Reason: "answer holds no ticket", Kind: fleet.ErrInvalid})
	case answer.Data.NeedMF.bool():
		return ticket{}, s.refused(&Error{Method: req.Method, Path: "/access/ticket", Kind: fleet.ErrDenied,
			Reason: "the user has a second factor, which a build cannot give; use an API token"})
	}
	answer.Data.at = time.Now()
	return answer.Data, nil
}

// refused keeps the typed error, whose effect is none: the request that wanted
// the ticket was not sent.
func (s *session) refused(err error) error {
	e, ok := err.(*Error)
	if !ok {
		return err
	}
	out := *e
	out.Reason = fmt.Sprintf("log in as %s: %s", s.user, e.Reason)
	if unknown(err) {
		out.Kind = fleet.ErrUnavailable
	}
	return &out
}

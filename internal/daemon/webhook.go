package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/github"
	"github.com/dayfly-ci/dayfly/internal/journal"
)

// maxPayload is the largest payload that GitHub delivers.
const maxPayload = 25 << 20

// storeBound is how long a delivery is tried to be stored, payload included.
const storeBound = time.Minute

// usualPayload is more than what GitHub says of a job.
const usualPayload = 64 << 10

// Webhook is the handler of GitHub's deliveries. It checks the size and the
// signature, writes one transaction, and answers; nothing else, so that it
// works whatever else is down.
func (d *Daemon) Webhook() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// GitHub gives up after 10 s; a delivery that has come so far is taken all the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), storeBound)
		defer cancel()
		code, text := d.receive(ctx, r, http.MaxBytesReader(w, r.Body, maxPayload))
		d.metrics.delivery(code)
		if code >= 400 {
			d.refused(kindOf(code, text), clip(r.Header.Get("X-GitHub-Delivery")), text)
		}
		http.Error(w, text, code)
	})
}

// kindOf is what refusals are counted by: the words, but for those about a
// payload, which are many.
func kindOf(code int, text string) string {
	if code == http.StatusBadRequest {
		return "the payload is not what GitHub sends"
	}
	return text
}

// clip shortens what anybody may send.
func clip(text string) string { return text[:min(len(text), 64)] }

func (d *Daemon) receive(ctx context.Context, r *http.Request, body io.Reader) (int, string) {
	if r.Method != http.MethodPost {
		return http.StatusMethodNotAllowed, "deliveries are POSTed"
	}
	var payload bytes.Buffer
	payload.Grow(int(min(max(r.ContentLength, 0), usualPayload)) + bytes.MinRead) // no more on a stranger's word
	_, err := payload.ReadFrom(body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge, "a payload is at most 25 MiB"
	case err != nil:
		return http.StatusBadRequest, "the payload ended early"
	}
	del, err := github.ParseWebhook(d.cfg.Webhook, r.Header, payload.Bytes())
	switch {
	case errors.Is(err, github.ErrSignature):
		return http.StatusUnauthorized, err.Error()
	case err != nil:
		return http.StatusBadRequest, err.Error()
	}
	what, err := d.accept(ctx, del, "webhook")
	if err != nil {
		return http.StatusServiceUnavailable, "the delivery could not be stored"
	}
	return http.StatusAccepted, what
}

// accept stores a delivery and wakes the loop. What is not ours is well
// received and forgotten: GitHub would show anything else as a failure.
func (d *Daemon) accept(ctx context.Context, del github.Delivery, source string) (string, error) {
	switch {
	case del.Push != nil && d.cfg.Source.Concerns(del.Repo, del.Push.Ref):
		d.looks.pools.poke()
	case del.Push != nil && d.cfg.Source.Concerns(del.Repo, ""):
		d.propose(del.Push.Ref, del.Push.Commit, false)
	case del.Pull != nil && del.Pull.Fork && d.cfg.Source.Concerns(del.Repo, ""):
		d.propose(fmt.Sprintf("refs/pull/%d/head", del.Pull.Number), del.Pull.Commit, true)
	case strings.HasPrefix(del.Event, "installation"): // what it covers may have changed
		d.looks.jobs.pokeAll()
		d.looks.health.poke()
	}
	if del.Job == nil {
		return "nothing to do", nil
	}
	if !d.covers(del.Repo) {
		return "not of a repository of our pools", nil
	}
	fresh, err := d.cfg.Journal.Accept(ctx, journal.Delivery{
		GUID: del.GUID, Event: del.Event, Action: del.Action, Source: source, Received: time.Now(), Job: del.Job,
	})
	if err != nil {
		d.journalFailed(err)
		return "", err
	}
	if !fresh {
		return "known already", nil
	}
	job := *del.Job
	d.inbox.post(func(s *state) {
		d.fine(journalAway) // it could be written
		d.jobSeen(s, job)
	})
	return "accepted", nil
}

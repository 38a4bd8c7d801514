package github

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-github/v62/github"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Missed is a delivery that never reached us, with its payload.
type Missed struct {
	Delivery
	ID     int64     // GitHub's number of the last attempt
	At     time.Time // of the last attempt, GitHub's time
	Status string    // of the last attempt: "failed to connect", "timed out", …
}

// maxDeliveries bounds one look at the App's deliveries.
const maxDeliveries = 10_000

// events are those worth fetching when missed.
var events = []string{"workflow_job", "push", "installation", "installation_repositories"}

// Deliveries finds the deliveries since a time that no attempt brought
// through, and fetches their payloads, so that each can be processed as if it
// had arrived. GitHub keeps three days and never delivers again by itself. The
// order is that of the deliveries; with an error comes what was fetched before
// it.
func (c *Client) Deliveries(ctx context.Context, since time.Time) ([]Missed, error) {
	attempts, err := c.attempts(ctx, since)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	var missed []Missed
	for _, a := range failed(attempts) {
		m, err := c.payload(ctx, a)
		if errors.Is(err, ErrMalformed) || gone(err) {
			c.log.Warn("drop missed delivery", "delivery", a.GetGUID(), "err", err)
			continue
		}
		if err != nil {
			return missed, fmt.Errorf("get delivery %s: %w", a.GetGUID(), err)
		}
		missed = append(missed, m)
	}
	return missed, nil
}

// attempts lists all attempts since a time, newest first. The filter for
// failures that GitHub offers is not used: it goes by status codes of 400 and
// above, which an attempt that found no server need not have.
func (c *Client) attempts(ctx context.Context, since time.Time) ([]*github.HookDelivery, error) {
	var all []*github.HookDelivery
	opts := &github.ListCursorOptions{PerPage: perPage}
	for len(all) < maxDeliveries {
		var page []*github.HookDelivery
		var resp *github.Response
		err := c.asApp(ctx, admin, func(ctx context.Context) (err error) {
			page, resp, err = c.gh.Apps.ListHookDeliveries(ctx, opts)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, a := range page {
			if c.clock.local(a.GetDeliveredAt().Time).Before(since) {
				return all, nil
			}
			all = append(all, a)
		}
		if resp.Cursor == "" || len(page) == 0 {
			return all, nil
		}
		opts.Cursor = resp.Cursor
	}
	c.log.Warn("look at missed deliveries cut short", "reason", fmt.Sprintf("more than %d since %v", maxDeliveries, since))
	return all, nil
}

// failed groups attempts, newest first, by GUID and keeps the newest of those
// GUIDs of which no attempt arrived; oldest first.
func failed(attempts []*github.HookDelivery) []*github.HookDelivery {
	arrived, newest := map[string]bool{}, map[string]*github.HookDelivery{}
	for _, a := range attempts {
		guid := a.GetGUID()
		if code := a.GetStatusCode(); a.GetStatus() == "OK" || code >= 200 && code < 300 {
			arrived[guid] = true
		}
		if have := newest[guid]; have == nil || have.GetDeliveredAt().Before(a.GetDeliveredAt().Time) {
			newest[guid] = a
		}
	}
	var all []*github.HookDelivery
	for _, a := range slices.Backward(attempts) {
		guid := a.GetGUID()
		if newest[guid] == a && !arrived[guid] && slices.Contains(events, a.GetEvent()) {
			all = append(all, a)
		}
	}
	return all
}

func (c *Client) payload(ctx context.Context, a *github.HookDelivery) (Missed, error) {
	var got *github.HookDelivery
	err := c.asApp(ctx, admin, func(ctx context.Context) (err error) {
		got, _, err = c.gh.Apps.GetHookDelivery(ctx, a.GetID())
		return err
	})
	if err != nil {
		return Missed{}, err
	}
	if got.Request == nil || got.Request.RawPayload == nil {
		return Missed{}, fmt.Errorf("request.payload: missing: %w", ErrMalformed)
	}
	d, err := parseDelivery(a.GetGUID(), a.GetEvent(), *got.Request.RawPayload)
	return Missed{Delivery: d, ID: a.GetID(), At: a.GetDeliveredAt().Time, Status: clean(a.GetStatus(), "")}, err
}

// gone reports whether the thing asked for is not there (or not there for us:
// GitHub answers 404 to who may not know).
func gone(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == 404 && errors.Is(err, fleet.ErrNotFound)
}

package github

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gogithub "github.com/google/go-github/v62/github"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// receiver is our side of the webhook.
type receiver struct {
	t *testing.T

	mu   sync.Mutex
	code int
	got  []Delivery
}

// answer sets the status that webhooks get from now on.
func (r *receiver) answer(code int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.code = code
}

// seen are the deliveries that arrived.
func (r *receiver) seen() []Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Error(err)
	}
	d, err := ParseWebhook(hookSecret, req.Header, body)
	if err != nil {
		r.t.Errorf("got %v for a webhook of the hub's, want none", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.code < 300 {
		r.got = append(r.got, d)
	}
	return &http.Response{StatusCode: r.code, Status: http.StatusText(r.code), Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

func (f *fixture) receive(t *testing.T) *receiver {
	r := &receiver{t: t, code: http.StatusAccepted}
	f.hub.SetWebhook(hub.Webhook{URL: "https://dayfly.example/webhook", Secret: hookSecret.Reveal(), Transport: r})
	return r
}

func TestMissedDeliveriesAreFetchedOnce(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		r := f.receive(t)
		since := time.Now()
		queue := func() fleet.JobID {
			id := f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"x"}})
			pass(time.Minute)
			return fleet.JobID(id)
		}
		queue() // arrives, with 202
		f.hub.NextWebhook(hub.Fail)
		lost := queue() // finds no server
		r.answer(http.StatusInternalServerError)
		refused := queue()
		f.hub.Ping() // not worth fetching
		pass(time.Minute)
		r.answer(http.StatusAccepted)
		queue()

		if got := r.seen(); len(got) != 2 {
			t.Fatalf("got %d deliveries, want two", len(got))
		}
		missed, err := f.c.Deliveries(t.Context(), since)
		if err != nil {
			t.Fatal(err)
		}
		if len(missed) != 2 || missed[0].Job == nil || missed[1].Job == nil || missed[0].Job.ID != lost || missed[1].Job.ID != refused {
			t.Fatalf("got %+v, want jobs %d and %d, oldest first", missed, lost, refused)
		}
		m := missed[0]
		if m.Event != "workflow_job" || m.Action != "queued" || m.Repo != "acme/app" || m.Installation != int64(f.in) ||
			m.GUID == "" || m.ID == 0 || m.Status == "" || m.At.Before(since) || m.Job.Status != fleet.Queued {
			t.Errorf("got %+v", m)
		}
		if n := f.rec.Count("GET", "/app/hook/deliveries"); n != 1 {
			t.Errorf("got %d lists, want one", n)
		}
		// Since then nothing was missed.
		if missed, err := f.c.Deliveries(t.Context(), time.Now()); err != nil || len(missed) != 0 {
			t.Errorf("got %v %v, want none", missed, err)
		}
	})
}

// A person may have redelivered: all attempts have the same GUID.
func TestADeliveryThatArrivedInTheEndIsNotMissed(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		r := f.receive(t)
		since := time.Now()
		f.hub.NextWebhook(hub.Fail)
		f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"x"}})
		pass(time.Minute)
		missed, err := f.c.Deliveries(t.Context(), since)
		if err != nil || len(missed) != 1 {
			t.Fatalf("got %v %v, want one", missed, err)
		}
		err = f.c.asApp(t.Context(), admin, func(ctx context.Context) error {
			_, _, err := f.c.gh.Apps.RedeliverHookDelivery(ctx, missed[0].ID)
			var accepted *gogithub.AcceptedError // go-github's word for success
			if errors.As(err, &accepted) {
				return nil
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if got := r.seen(); len(got) != 1 || got[0].GUID != missed[0].GUID {
			t.Fatalf("got %+v, want %s", got, missed[0].GUID)
		}
		if again, err := f.c.Deliveries(t.Context(), since); err != nil || len(again) != 0 {
			t.Errorf("got %v %v, want none", again, err)
		}
	})
}

func TestManyPagesOfDeliveriesAreReadUntilTheirTime(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.receive(t)
		f.hub.NextWebhook(hub.Fail)
		f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"x"}})
		pass(time.Minute)
		since := time.Now()
		f.hub.NextWebhook(hub.Fail)
		want := f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"x"}})
		pass(time.Minute)
		for range 230 {
			f.hub.Ping()
		}
		pass(time.Minute)
		missed, err := f.c.Deliveries(t.Context(), since)
		if err != nil || len(missed) != 1 || missed[0].Job.ID != fleet.JobID(want) {
			t.Errorf("got %v %v, want job %d", missed, err, want)
		}
		if n := f.rec.Count("GET", "/app/hook/deliveries"); n != 3 {
			t.Errorf("got %d pages, want 3", n)
		}
	})
}

func TestWhatWasFetchedBeforeAnErrorIsKept(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.receive(t)
		since := time.Now()
		for range 3 {
			f.hub.NextWebhook(hub.Fail)
			f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"x"}})
			pass(time.Second)
		}
		fetched := 0
		f.faults(func(r *http.Request) stage.Fault {
			if strings.Contains(r.URL.Path, "/app/hook/deliveries/") {
				if fetched++; fetched > 1 {
					return refuse(503, "Service unavailable")
				}
			}
			return stage.Fault{}
		})
		missed, err := f.c.Deliveries(t.Context(), since)
		if err == nil || len(missed) != 1 {
			t.Errorf("got %d and %v, want one and an error", len(missed), err)
		}
	})
}

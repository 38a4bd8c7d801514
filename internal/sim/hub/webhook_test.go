package hub

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// served runs one job of a minute and returns what the receiver saw.
func (f *fixture) served(fates ...Fate) *inbox {
	mail := f.receive()
	f.h.NextWebhook(fates...)
	f.queue(time.Minute, "linux")
	f.guest(f.jit("acme", "one", "linux").Config)
	settle(2 * time.Hour)
	return mail
}

func TestWebhooksGoWrongAsTold(t *testing.T) {
	for name, c := range map[string]struct {
		fates []Fate
		want  []string
	}{
		"well":    {nil, []string{"queued", "in_progress", "completed"}},
		"lost":    {[]Fate{Lose}, []string{"in_progress", "completed"}},
		"failed":  {[]Fate{Deliver, Fail}, []string{"queued", "completed"}},
		"doubled": {[]Fate{Double}, []string{"queued", "queued", "in_progress", "completed"}},
		"swapped": {[]Fate{Deliver, Swap}, []string{"queued", "in_progress", "completed"}},
		"late":    {[]Fate{Late(time.Hour)}, []string{"in_progress", "completed", "queued"}},
		"forged":  {[]Fate{Deliver, Forge}, []string{"queued", "in_progress", "in_progress", "completed"}},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, Config{}, func(t *testing.T, f *fixture) {
				if got := f.served(c.fates...).actions(); !slices.Equal(got, c.want) {
					t.Errorf("webhooks: got %v, want %v", got, c.want)
				}
				if n := f.h.Unsent(); n != 0 {
					t.Errorf("webhooks on their way: got %d, want none", n)
				}
			})
		})
	}
}

func TestSwapLetsTheNextOneOvertake(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		mail := f.receive()
		f.h.NextWebhook(Swap)
		f.queue(0, "linux")
		f.guest(f.jit("acme", "one", "linux").Config)
		synctest.Wait()
		if got, want := mail.actions(), []string{"in_progress", "queued", "completed"}; !slices.Equal(got, want) {
			t.Errorf("webhooks: got %v, want %v", got, want)
		}
	})
}

func TestDoubleAndForgedAreTellable(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		mail := f.served(Double, Forge)
		guid := func(i int) string { return mail.got[i].header.Get("X-GitHub-Delivery") }
		sign := func(i int) string { return mail.got[i].header.Get("X-Hub-Signature-256") }
		if guid(0) != guid(1) || guid(1) == guid(2) {
			t.Errorf("GUIDs: got %s %s %s, want the double alike and the forgery not", guid(0), guid(1), guid(2))
		}
		if string(mail.got[2].body) != string(mail.got[3].body) || sign(2) == sign(3) {
			t.Error("forgery: want the same body with another signature")
		}
	})
}

func TestDeliveriesAreListedReadAndRedelivered(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		mail := f.served(Fail)
		list := func(query string) (items []struct {
			ID         int64
			GUID       string
			Code       int `json:"status_code"`
			Redelivery bool
		}, link string) {
			_, header, got := f.call(f.appJWT(), http.MethodGet, "/app/hook/deliveries"+query, nil)
			f.decode(got, &items)
			return items, header.Get("Link")
		}
		first, link := list("?per_page=2")
		_, cursor, more := strings.Cut(link, "cursor=")
		if len(first) != 2 || !more {
			t.Fatalf("first page: got %v and Link %q, want two and a cursor", first, link)
		}
		cursor, _, _ = strings.Cut(cursor, "&")
		rest, _ := list("?per_page=2&cursor=" + cursor)
		if len(rest) != 1 || rest[0].Code != 502 {
			t.Fatalf("second page: got %v, want the failed one", rest)
		}
		if failed, _ := list("?status=failure"); len(failed) != 1 || failed[0].ID != rest[0].ID {
			t.Errorf("failed ones: got %v, want %v", failed, rest)
		}
		one := fmt.Sprintf("/app/hook/deliveries/%d", rest[0].ID)
		_, _, got := f.call(f.appJWT(), http.MethodGet, one, nil)
		var full struct {
			Request struct {
				Headers map[string]string
				Payload struct{ Action string }
			}
		}
		f.decode(got, &full)
		if full.Request.Payload.Action != "queued" || full.Request.Headers["X-Github-Event"] != "workflow_job" {
			t.Errorf("delivery: got %+v, want the payload and the headers", full.Request)
		}
		if code, _, got := f.call(f.appJWT(), http.MethodPost, one+"/attempts", nil); code != 202 {
			t.Fatalf("redeliver: got %d %s, want 202", code, got)
		}
		synctest.Wait()
		if n := len(mail.got); n != 3 || mail.got[2].header.Get("X-GitHub-Delivery") != rest[0].GUID {
			t.Errorf("redelivery: got %d deliveries, want a third with GUID %s", n, rest[0].GUID)
		}
		if all, _ := list(""); len(all) != 4 || !all[0].Redelivery || all[0].GUID != rest[0].GUID {
			t.Errorf("list after redelivery: got %v, want the new attempt first", all)
		}
		settle(73 * time.Hour)
		if all, _ := list(""); len(all) != 0 {
			t.Errorf("after three days: got %v, want none", all)
		}
	})
}

func TestASlowReceiverTimesOutAndHoldsUpOnlyItsJob(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		mail := f.receive()
		mail.wait = 11 * time.Second
		f.queue(time.Minute, "a")
		f.queue(time.Minute, "b")
		settle(10 * time.Second)
		d := f.h.Deliveries()
		if len(d) != 2 || d[0].Code != 504 || d[1].Code != 504 {
			t.Errorf("deliveries: got %+v, want two that timed out", d)
		}
		settle(2 * time.Second)
	})
}

func TestNoWebhookWithoutAnInstallationThatMaySeeIt(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		mail := f.receive()
		f.h.Grant(f.in, Permissions{"administration": "write"})
		f.queue(0, "linux")
		f.h.AddRepository(Repository{Name: "umbrella/app", Private: true})
		f.h.QueueJob(NewJob{Repo: "umbrella/app", Labels: []string{"linux"}})
		synctest.Wait()
		if got := mail.actions(); got != nil {
			t.Errorf("webhooks: got %v, want none", got)
		}
	})
}

package hub

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestAJobRunsOnceAndLeavesNothing(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		mail := f.receive()
		id := f.h.QueueJob(NewJob{Repo: "acme/app", Labels: []string{"self-hosted", "Linux"}, Duration: time.Minute})
		synctest.Wait()
		if got, want := mail.actions(), []string{"queued"}; !slices.Equal(got, want) {
			t.Fatalf("webhooks after queueing: got %v, want %v", got, want)
		}
		reply := f.jit("acme", "dayfly-1", "self-hosted", "linux", "x64")
		if reply.Runner.Status != "offline" || reply.Runner.Busy {
			t.Errorf("fresh registration: got %+v, want offline and not busy", reply.Runner)
		}
		g := f.guest(reply.Config)
		settle(30 * time.Second)
		if job, _ := f.h.Job(id); job.Status != StatusInProgress || job.Runner != "dayfly-1" {
			t.Errorf("after 30 s: got %+v, want it in progress on dayfly-1", job)
		}
		if code, got := f.do(http.MethodDelete, "/orgs/acme/actions/runners/1", nil); code != 422 {
			t.Errorf("delete busy runner: got %d %s, want 422", code, got)
		}
		settle(31 * time.Second)
		if got, want := mail.actions(), []string{"queued", "in_progress", "completed"}; !slices.Equal(got, want) {
			t.Errorf("webhooks: got %v, want %v", got, want)
		}
		job, _ := f.h.Job(id)
		if job.Conclusion != Success || job.Completed.Sub(job.Started) != time.Minute || job.Lost {
			t.Errorf("job: got %+v, want success after a minute", job)
		}
		if got := f.h.Runners(""); len(got) != 0 {
			t.Errorf("registrations left: got %v, want none", got)
		}
		if len(g.ran()) != 1 {
			t.Errorf("jobs of the guest: got %v, want one", g.ran())
		}
		for _, r := range mail.got {
			mac := hmac.New(sha256.New, []byte("s3cret"))
			mac.Write(r.body)
			want := "sha256=" + hex.EncodeToString(mac.Sum(nil))
			if got := r.header.Get("X-Hub-Signature-256"); got != want {
				t.Errorf("signature of %s: got %s, want %s", r.event.Action, got, want)
			}
		}
	})
}

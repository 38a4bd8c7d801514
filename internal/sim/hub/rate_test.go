package hub

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

const runsPath = "/repos/acme/app/actions/runs?status=queued"

func TestConditionalRequestsAreFree(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		f.queue(0, "linux")
		_, header, _ := f.call(f.auth(), http.MethodGet, runsPath, nil)
		before, _ := f.h.Quota(f.in)
		again := http.Header{"Authorization": {"Bearer " + f.auth()}, "If-None-Match": {header.Get("ETag")}}
		code, header, got := f.callWith(again, http.MethodGet, runsPath, nil)
		if code != 304 || len(got) != 0 || header.Get("X-RateLimit-Remaining") == "" {
			t.Errorf("unchanged: got %d and %d bytes, want 304 and none", code, len(got))
		}
		if after, _ := f.h.Quota(f.in); after != before {
			t.Errorf("quota used: got %d, want %d as before", after, before)
		}
		f.queue(0, "linux")
		if code, _, _ := f.callWith(again, http.MethodGet, runsPath, nil); code != 200 {
			t.Errorf("changed: got %d, want 200", code)
		}
		again.Set("Authorization", "Bearer "+f.mint(nil))
		if code, _, _ := f.callWith(again, http.MethodGet, runsPath, nil); code != 200 {
			t.Errorf("with another token: got %d, want 200", code)
		}
	})
}

func TestPrimaryLimit(t *testing.T) {
	story(t, Config{Limits: Limits{Primary: 3}}, func(t *testing.T, f *fixture) {
		for i := range 3 {
			if code, got := f.do(http.MethodGet, runsPath, nil); code != 200 {
				t.Fatalf("call %d: got %d %s, want 200", i, code, got)
			}
		}
		code, header, got := f.call(f.auth(), http.MethodGet, runsPath, nil)
		if code != 403 || !strings.Contains(string(got), "API rate limit exceeded for installation ID") ||
			header.Get("X-RateLimit-Remaining") != "0" || header.Get("X-RateLimit-Resource") != "core" {
			t.Errorf("over the limit: got %d %v %s, want 403 with GitHub's words", code, header, got)
		}
		if code, got := f.do(http.MethodGet, "/rate_limit", nil); code != 200 || !strings.Contains(string(got), `"remaining":0`) {
			t.Errorf("rate_limit: got %d %s, want it free and 0 left", code, got)
		}
		settle(time.Hour - time.Second)
		f.token = ""
		if code, _, _ := f.call(f.auth(), http.MethodGet, runsPath, nil); code != 403 {
			t.Errorf("before the reset: got %d, want 403", code)
		}
		settle(time.Second)
		if code, _, _ := f.call(f.auth(), http.MethodGet, runsPath, nil); code != 200 {
			t.Errorf("after the reset: got %d, want 200", code)
		}
	})
}

func TestSecondaryLimits(t *testing.T) {
	story(t, Config{Limits: Limits{Points: 10, Secondary: 429}}, func(t *testing.T, f *fixture) {
		f.jit("acme", "one", "linux")
		f.jit("acme", "two", "linux")
		code, header, got := f.call(f.auth(), http.MethodPost, "/orgs/acme/actions/runners/generate-jitconfig",
			map[string]any{"name": "three", "runner_group_id": 1, "labels": []string{"linux"}})
		if code != 429 || header.Get("Retry-After") != "60" || !strings.Contains(string(got), "secondary rate limit") {
			t.Errorf("third write: got %d %v %s, want 429 with Retry-After 60", code, header, got)
		}
		settle(time.Minute)
		f.jit("acme", "three", "linux")

		f.h.SetLimits(Limits{NoRetryAfter: true})
		f.h.Throttle(30 * time.Second)
		code, header, _ = f.call(f.auth(), http.MethodGet, runsPath, nil)
		if code != 403 || header.Get("Retry-After") != "" || header.Get("X-RateLimit-Reset") == "" {
			t.Errorf("throttled: got %d %v, want 403 with only the primary reset", code, header)
		}
		settle(30 * time.Second)
		f.h.Exhaust(10 * time.Minute)
		if code, got := f.do(http.MethodGet, runsPath, nil); code != 403 {
			t.Errorf("exhausted: got %d %s, want 403", code, got)
		}
		settle(10 * time.Minute)
		if code, got := f.do(http.MethodGet, runsPath, nil); code != 200 {
			t.Errorf("after it: got %d %s, want 200", code, got)
		}
	})
}

func TestTooManyOpenRequests(t *testing.T) {
	story(t, Config{Limits: Limits{Concurrent: 2}, Timing: Timing{API: time.Second}}, func(t *testing.T, f *fixture) {
		f.auth()
		codes := make(chan int, 3)
		for range 3 {
			go func() {
				code, _ := f.do(http.MethodGet, "/rate_limit", nil)
				_ = code
				code, _ = f.do(http.MethodGet, runsPath, nil)
				codes <- code
			}()
		}
		refused := 0
		for range 3 {
			if <-codes == 403 {
				refused++
			}
		}
		if refused != 1 {
			t.Errorf("refused: got %d of three at once, want one", refused)
		}
	})
}

func BenchmarkListRunners(b *testing.B) {
	f := newFixture(b, Config{Limits: Limits{Primary: 1 << 40, Points: 1 << 40}})
	f.check = nil
	f.jit("acme", "one", "linux")
	for b.Loop() {
		f.do(http.MethodGet, "/orgs/acme/actions/runners?name=one", nil)
	}
}

func BenchmarkJob(b *testing.B) {
	f := newFixture(b, Config{Limits: Limits{Primary: 1 << 40, Points: 1 << 40, Registrations: 1 << 40}})
	f.check = nil
	for i := 0; b.Loop(); i++ {
		f.queue(0, "linux")
		f.guest(f.jit("acme", strconv.Itoa(i), "linux").Config)
	}
}

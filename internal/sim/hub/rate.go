package hub

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Limits are GitHub's rate limits; a zero field is GitHub's own figure.
type Limits struct {
	Primary         int // requests an hour and installation, 5000
	Concurrent      int // open requests, 100
	Points          int // points a minute and endpoint: GET 1, writes 5; 900
	Registrations   int // runner registrations in 5 minutes and scope, 1500
	RunnersPerGroup int // 10000
	Secondary       int // the status a secondary limit answers, 403 or 429; 403
	// NoRetryAfter leaves out Retry-After on a secondary limit, so that only
	// the primary limit's reset is there to misread.
	NoRetryAfter bool
}

func (l Limits) orDefaults() Limits {
	or := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	or(&l.Primary, 5000)
	or(&l.Concurrent, 100)
	or(&l.Points, 900)
	or(&l.Registrations, 1500)
	or(&l.RunnersPerGroup, 10000)
	or(&l.Secondary, http.StatusForbidden)
	return l
}

// SetLimits changes the limits from now on.
func (h *Hub) SetLimits(l Limits) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limits = l.orDefaults()
}

// bucket is the primary quota of one installation (or of the App itself).
type bucket struct {
	key   string
	limit int
	used  int
	reset time.Time
}

// pointsKey is what the secondary limit counts by.
type pointsKey struct {
	bucket string
	end    *endpoint
}

// points are those spent in the minute that began at since.
type points struct {
	spent int
	since time.Time
}

// refusal is a limit that is enforced whatever was used, see Throttle and
// Exhaust.
type refusal struct {
	secondaryUntil time.Time
	primaryUntil   time.Time
}

// Throttle makes every call hit a secondary rate limit for d.
func (h *Hub) Throttle(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refusal.secondaryUntil = h.clock.Now().Add(d)
}

// Exhaust makes every call hit the primary rate limit for d; then the windows
// begin anew.
func (h *Hub) Exhaust(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refusal.primaryUntil = h.clock.Now().Add(d)
}

// bucket is the key's current window: an hour from its first request.
func (h *Hub) bucket(key string) *bucket {
	now := h.clock.Now()
	b := h.buckets[key]
	if b == nil || !now.Before(b.reset) {
		b = &bucket{key: key, limit: h.limits.Primary, reset: now.Add(time.Hour)}
		if key == "anonymous" {
			b.limit = 60
		}
		h.buckets[key] = b
	}
	if until := h.refusal.primaryUntil; now.Before(until) {
		b.used, b.reset = b.limit, until
	}
	return b
}

// begin counts the request as open until done is called.
func (h *Hub) begin(b *bucket) (done func()) {
	h.open[b.key]++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.open[b.key]--
	}
}

// charge takes one request from the quota; a 304 is free.
func (b *bucket) charge(code int, free bool) {
	if !free && code != http.StatusNotModified {
		b.used++
	}
}

func (b *bucket) remaining() int { return max(b.limit-b.used, 0) }

func (b *bucket) headers(to http.Header) {
	to.Set("X-RateLimit-Limit", strconv.Itoa(b.limit))
	to.Set("X-RateLimit-Remaining", strconv.Itoa(b.remaining()))
	to.Set("X-RateLimit-Used", strconv.Itoa(min(b.used, b.limit)))
	to.Set("X-RateLimit-Reset", strconv.FormatInt(b.reset.Unix(), 10))
	to.Set("X-RateLimit-Resource", "core")
}

// withinLimits enforces the primary limit, then the secondary ones.
func (h *Hub) withinLimits(c *call, b *bucket) (answer, bool) {
	now := h.clock.Now()
	if c.end.free {
		return answer{}, true
	}
	if b.remaining() == 0 {
		whom := "installation ID " + b.key
		if c.token == nil {
			whom = b.key
		}
		a := fail(http.StatusForbidden, "API rate limit exceeded for %s. If you reach out to GitHub "+
			"Support for help, please include the request ID and timestamp.", whom)
		a.header = http.Header{}
		return a, false
	}
	if now.Before(h.refusal.secondaryUntil) {
		return h.secondary(h.refusal.secondaryUntil.Sub(now)), false
	}
	if h.open[b.key] >= h.limits.Concurrent {
		return h.secondary(time.Minute), false
	}
	cost := max(c.end.points, 1)
	key := pointsKey{b.key, c.end}
	p := h.points[key]
	if p == nil || now.Sub(p.since) >= time.Minute {
		p = &points{since: now}
		h.points[key] = p
	}
	if p.spent+cost > h.limits.Points {
		return h.secondary(time.Minute - now.Sub(p.since)), false
	}
	p.spent += cost
	return answer{}, true
}

// secondary is the answer of a secondary limit that ends after d.
func (h *Hub) secondary(d time.Duration) answer {
	a := answer{code: h.limits.Secondary, header: http.Header{}, body: failure{
		Message: "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
		Docs:    "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits",
		Status:  strconv.Itoa(h.limits.Secondary),
	}}
	if !h.limits.NoRetryAfter {
		a.header.Set("Retry-After", fmt.Sprint(int((d+time.Second-1)/time.Second)))
	}
	return a
}

// showRateLimit is GET /rate_limit.
func (h *Hub) showRateLimit(c *call) answer {
	b := h.bucket(fmt.Sprint(c.token.in.id))
	core := map[string]any{
		"limit": b.limit, "remaining": b.remaining(), "used": min(b.used, b.limit), "reset": b.reset.Unix(),
	}
	idle := func(limit int) map[string]any {
		return map[string]any{
			"limit": limit, "remaining": limit, "used": 0, "reset": h.clock.Now().Add(time.Hour).Unix(),
		}
	}
	return ok(map[string]any{
		"resources": map[string]any{
			"core": core, "search": idle(30), "graphql": idle(5000), "integration_manifest": idle(5000),
			"actions_runner_registration": idle(10000), "scim": idle(15000), "code_search": idle(10),
		},
		"rate": core,
	})
}

// Quota is what the installation has left of the primary limit this hour.
func (h *Hub) Quota(id InstallationID) (used, limit int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.bucket(fmt.Sprint(id))
	return b.used, b.limit
}

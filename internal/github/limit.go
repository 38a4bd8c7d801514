package github

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// class is a kind of call that is limited by itself: GitHub's secondary limit
// on one of them never stops the others.
type class int

const (
	read   class = iota // registrations, groups, repositories, one job
	poll                // lists of runs and jobs
	mint                // POST generate-jitconfig
	remove              // DELETE of a registration
	auth                // the App: installations and their tokens
	admin               // the App: deliveries and checks
	post                // statuses and check runs of commits
)

var classNames = [...]string{"read", "poll", "mint", "remove", "auth", "admin", "post"}

func (c class) String() string { return classNames[c] }

// effect reports whether a request of c may have done something when its
// answer is lost.
func (c class) effect() bool { return c == mint || c == remove }

// Limit is one of GitHub's primary limits as last seen.
type Limit struct {
	Installation int64  // 0 is the App itself
	Resource     string // "core", "actions_runner_registration", …
	Limit        int
	Remaining    int
	Reset        time.Time // our time
}

// pointsPerMinute is what GitHub allows for each endpoint. A GET costs one
// point, a write five: so 180 JIT configs a minute, of which a sixth is left
// to others, as is a ninth of the reads.
const pointsPerMinute = 900

// window counts calls within the last minute.
type window []time.Time // oldest first

// take counts a call, or says how long it must wait while most were made.
func (w *window) take(now time.Time, most int) (wait time.Duration) {
	for len(*w) > 0 && !(*w)[0].After(now.Add(-time.Minute)) {
		*w = (*w)[1:]
	}
	if len(*w) >= most {
		return (*w)[0].Add(time.Minute).Sub(now)
	}
	*w = append(*w, now)
	return 0
}

// A secondary limit without Retry-After is waited out for a minute at least,
// and twice as long each time it comes again.
const (
	minWait = time.Minute
	maxWait = 15 * time.Minute
)

type bucket struct {
	account  int64
	resource string
}

type lane struct {
	account int64
	class   class
}

// hold is a secondary limit on a lane.
type hold struct {
	until  time.Time
	last   time.Duration
	reason string
}

// limits knows what GitHub will refuse, so that it is not asked. It never
// waits: a call that is limited fails at once, without effect, and says until
// when. Only polls are paced instead: they have time, and one that gave up
// half-way would never come to its end.
type limits struct {
	clock  *clock
	points int // a minute and endpoint

	mu    sync.Mutex
	seen  map[bucket]Limit
	under map[lane]string // the resource GitHub named for the lane; believed "core" until then
	holds map[lane]hold
	made  map[lane]*window
}

func newLimits(k *clock, points int) *limits {
	return &limits{
		clock: k, points: points, seen: map[bucket]Limit{}, under: map[lane]string{},
		holds: map[lane]hold{}, made: map[lane]*window{},
	}
}

// pace waits until a poll may be made; other calls do not wait.
func (l *limits) pace(ctx context.Context, ln lane) error {
	if ln.class != poll {
		return nil
	}
	for {
		l.mu.Lock()
		wait := l.window(ln).take(l.clock.now(), l.points*8/9)
		l.mu.Unlock()
		if wait == 0 {
			return nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("%w: wait to spread the poll: %w", fleet.ErrUnavailable, ctx.Err())
		}
	}
}

func (l *limits) window(ln lane) *window {
	if l.made[ln] == nil {
		l.made[ln] = &window{}
	}
	return l.made[ln]
}

// admit lets a call pass or says until when it cannot.
func (l *limits) admit(ln lane) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.now()
	if h := l.holds[ln]; h.until.After(now) {
		return &fleet.RateLimit{Until: h.until, Reason: h.reason}
	}
	if b := l.seen[bucket{ln.account, l.resource(ln)}]; b.Remaining == 0 && b.Reset.After(now) {
		return &fleet.RateLimit{Until: b.Reset, Reason: primaryReason(b)}
	}
	if !ln.class.effect() {
		return nil
	}
	if wait := l.window(ln).take(now, l.points/6); wait > 0 {
		reason := fmt.Sprintf("%d %s calls a minute are dayfly's own limit", l.points/6, ln.class)
		return &fleet.RateLimit{Until: now.Add(wait), Reason: reason}
	}
	return nil
}

// resource is the primary limit a lane counts against. GitHub names it in the
// answer: for JIT configs "core" and "actions_runner_registration" were both
// seen.
func (l *limits) resource(ln lane) string {
	if r := l.under[ln]; r != "" {
		return r
	}
	return "core"
}

func primaryReason(b Limit) string {
	return fmt.Sprintf("all %d requests an hour to GitHub's %q are used", b.Limit, b.Resource)
}

// observe learns from an answer: the counters, and, when it is the refusal of
// a limited call, until when. It reports that refusal.
func (l *limits) observe(ln lane, status int, h http.Header, message string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, named := l.count(ln, h)
	now := l.clock.now()
	switch limited(status, h, message) {
	case primary:
		until := now.Add(minWait)
		if named && b.Reset.After(now) {
			until = b.Reset
		}
		return &fleet.RateLimit{Until: until, Reason: primaryReason(b) + said(message)}
	case secondary:
		return l.hold(ln, now, h, message)
	}
	if status < 300 || status == http.StatusNotModified {
		delete(l.holds, ln)
	}
	return nil
}

// count keeps the primary counters of an answer. Answers may overtake each
// other, so within one window the lowest remainder is the newest.
func (l *limits) count(ln lane, h http.Header) (Limit, bool) {
	limit, err1 := strconv.Atoi(h.Get("X-RateLimit-Limit"))
	left, err2 := strconv.Atoi(h.Get("X-RateLimit-Remaining"))
	reset, err3 := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return Limit{Resource: l.resource(ln)}, false
	}
	if r := h.Get("X-RateLimit-Resource"); r != "" {
		l.under[ln] = clean(r, "")
	}
	key := bucket{ln.account, l.resource(ln)}
	b := Limit{ln.account, key.resource, limit, left, l.clock.local(time.Unix(reset, 0))}
	if old, ok := l.seen[key]; ok && old.Reset.Sub(b.Reset).Abs() < 5*time.Second {
		b.Remaining = min(b.Remaining, old.Remaining)
	}
	l.seen[key] = b
	return b, true
}

// hold stops a lane after a secondary limit. X-RateLimit-Reset is not looked
// at: it belongs to the primary limit and may be an hour away.
func (l *limits) hold(ln lane, now time.Time, h http.Header, message string) error {
	wait, told := l.retryAfter(h, now)
	if !told {
		wait = min(max(2*l.holds[ln].last, minWait), maxWait)
	}
	n := hold{until: now.Add(wait), reason: "GitHub's secondary limit on " + ln.class.String() + " calls" + said(message)}
	if !told {
		n.last = wait
	}
	l.holds[ln] = n
	return &fleet.RateLimit{Until: n.until, Reason: n.reason}
}

func (l *limits) retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	text := h.Get("Retry-After")
	if s, err := strconv.Atoi(text); err == nil {
		return max(time.Duration(s)*time.Second, time.Second), true
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(l.clock.local(at).Sub(now), time.Second), true
	}
	return 0, false
}

type limitKind int

const (
	unlimited limitKind = iota
	primary
	secondary
)

// limited tells a limit from a refusal of another cause. Both 403 and 429 are
// used for both limits; a permission that is missing is a 403 too, which may
// come with the last request that was left.
func limited(status int, h http.Header, message string) limitKind {
	if status != http.StatusForbidden && status != http.StatusTooManyRequests {
		return unlimited
	}
	low := strings.ToLower(message)
	spent := h.Get("X-RateLimit-Remaining") == "0"
	switch {
	case strings.Contains(low, "secondary rate limit") || strings.Contains(low, "abuse"):
		return secondary
	case spent && (message == "" || strings.Contains(low, "rate limit") || status == http.StatusTooManyRequests):
		return primary
	case h.Get("Retry-After") != "" || status == http.StatusTooManyRequests || strings.Contains(low, "rate limit exceeded"):
		return secondary
	default:
		return unlimited
	}
}

func said(message string) string {
	if message == "" {
		return ""
	}
	return ": " + message
}

// Limits are GitHub's primary limits as last seen, in a stable order.
func (c *Client) Limits() []Limit {
	c.limits.mu.Lock()
	defer c.limits.mu.Unlock()
	var all []Limit
	for _, b := range c.limits.seen {
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b Limit) int {
		return cmp.Or(cmp.Compare(a.Installation, b.Installation), cmp.Compare(a.Resource, b.Resource))
	})
	return all
}

// Quota is the primary limit that polls of scope count against, as last seen,
// and whether it was.
func (c *Client) Quota(scope fleet.Scope) (Limit, bool) {
	id, ok := c.tokens.known(scope)
	if !ok {
		return Limit{}, false
	}
	c.limits.mu.Lock()
	defer c.limits.mu.Unlock()
	b, seen := c.limits.seen[bucket{id, c.limits.resource(lane{id, poll})}]
	return b, seen
}

// Package hub is a simulated GitHub: the App, its installations and tokens,
// self-hosted runner registrations, workflow jobs and their routing, webhooks
// and the deliveries API, with GitHub's rules, texts and bad habits.
//
// A Hub is an http.Handler for the REST API. Guests reach it through Connect
// and Session, as a runner reaches the Actions broker. It never starts a
// goroutine but by timers, never holds its lock while it waits, and all its
// chance comes from one seed, so it can run inside a testing/synctest bubble.
//
// What is known of GitHub's behaviour comes from its OpenAPI description, its
// documentation, the runner's source and published measurements; what had to be
// guessed is marked believed.
package hub

import (
	"cmp"
	"crypto/rsa"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// Config describes a Hub. The zero value answers instantly and behaves well.
type Config struct {
	Clock    *stage.Clock  // GitHub's clock; nil means one of its own
	Agenda   *stage.Agenda // what happens later; nil means one of its own
	Seed     uint64
	AppKey   *rsa.PrivateKey // the App's key; nil means one key a process
	Webhook  Webhook
	Timing   Timing
	Limits   Limits
	Versions Versions
	Habits   Habits
	// Broker is the URL at which real runners find Broker; JIT configs name
	// it. Empty: GitHub's own, and nobody is there.
	Broker string
}

// Timing is how long GitHub takes. The zero value answers instantly.
type Timing struct {
	API     time.Duration // every answer; the effect comes first
	JIT     time.Duration // added to the answer of a generate-jitconfig call
	Route   time.Duration // a job and a runner meet → the runner is told
	Webhook time.Duration // an event → its delivery
}

// Hub is the simulated GitHub. Create it with New.
type Hub struct {
	clock    *stage.Clock
	agenda   *stage.Agenda
	mux      *http.ServeMux
	appKey   *rsa.PrivateKey
	appID    int64
	clientID string

	mu       sync.Mutex
	closed   bool
	rng      *rand.Rand
	later    []func() // run once mu is free again, see leave
	timing   Timing
	limits   Limits
	versions Versions
	habits   Habits
	webhook  Webhook
	broker   string
	visits   map[string]*visit // sessions of real runners, by id

	accounts      []*account
	told          []Told
	repositories  []*repository
	installations []*installation
	tokens        map[string]*token
	buckets       map[string]*bucket
	points        map[pointsKey]*points
	open          map[string]int
	refusal       refusal

	registrations []*registration // every one there ever was, by id
	live          map[RunnerID]*registration
	configs       map[string]*registration // by encoded JIT config
	idle          []*registration

	runs   []*run
	jobs   []*job // every one there ever was, by id
	queued []*job // oldest first

	post    postOffice
	history []Event
	secrets []string
	serial  int64
}

// New makes a Hub with an App that is installed nowhere yet.
func New(c Config) *Hub {
	h := &Hub{
		clock: c.Clock, agenda: c.Agenda, appKey: c.AppKey, appID: 1264357, clientID: "Iv23liDayflySim00001",
		rng:     rand.New(rand.NewPCG(c.Seed, 0x9e3779b97f4a7c15)),
		timing:  c.Timing,
		limits:  c.Limits.orDefaults(),
		habits:  c.Habits,
		webhook: c.Webhook.orDefaults(),
		tokens:  map[string]*token{},
		buckets: map[string]*bucket{},
		points:  map[pointsKey]*points{},
		open:    map[string]int{},
		live:    map[RunnerID]*registration{},
		configs: map[string]*registration{},
		post:    postOffice{lanes: map[int64]*lane{}},
		serial:  1000,
		broker:  cmp.Or(c.Broker, "https://broker.actions.githubusercontent.com/"),
		visits:  map[string]*visit{},
	}
	if h.clock == nil {
		h.clock = &stage.Clock{}
	}
	if h.agenda == nil {
		h.agenda = &stage.Agenda{}
	}
	if h.appKey == nil {
		h.appKey = processKey()
	}
	h.versions = c.Versions.orDefaults()
	h.secrets = append(h.secrets, string(h.App().PEM))
	if c.Webhook.Secret != "" {
		h.secrets = append(h.secrets, c.Webhook.Secret)
	}
	h.mux = h.routes()
	return h
}

// Close makes the hub silent: no further delivery, no further message to a
// runner. Requests are still answered.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}

// SetTiming changes how long GitHub takes from now on.
func (h *Hub) SetTiming(t Timing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timing = t
}

// Secrets is every secret the hub made or was given so far: the App's private
// key, the webhook secret, installation tokens and JIT configs. None may ever
// be seen in a log.
func (h *Hub) Secrets() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.secrets...)
}

// enter takes the lock; leave frees it and then does what was put off, in
// order: messages to guests must not find the lock held.
func (h *Hub) enter() { h.mu.Lock() }

func (h *Hub) leave() {
	later := h.later
	h.later = nil
	h.mu.Unlock()
	for _, f := range later {
		f()
	}
}

// afterLock puts f off until the lock is free.
func (h *Hub) afterLock(f func()) { h.later = append(h.later, f) }

// in runs f under the lock once d has passed.
func (h *Hub) in(d time.Duration, f func()) *stage.Entry {
	return h.agenda.After(d, func() {
		h.enter()
		defer h.leave()
		f()
	})
}

// number is the next of the ids that GitHub draws from one sequence.
func (h *Hub) number() int64 {
	h.serial++
	return h.serial
}

// chance is true in the given share of cases.
func (h *Hub) chance(share float64) bool { return share > 0 && h.rng.Float64() < share }

// uuid is a version 4 UUID from the seed.
func (h *Hub) uuid() string {
	a, b := h.rng.Uint64(), h.rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x",
		a>>32, a>>16&0xffff, a&0xfff, b>>48&0x3fff|0x8000, b&0xffffffffffff)
}

// Event is one line of the hub's history.
type Event struct {
	At     time.Time
	Kind   EventKind
	Runner string // the registration's name, if one is concerned
	ID     RunnerID
	Job    JobID
	Detail string
}

// EventKind says what happened.
type EventKind string

// What the history records.
const (
	Registered EventKind = "registered" // a JIT config was minted
	Connected  EventKind = "connected"
	Refused    EventKind = "refused" // a runner's session was refused
	Listening  EventKind = "listening"
	Removed    EventKind = "removed" // a registration is gone; Detail says why
	Queued     EventKind = "queued"
	Assigned   EventKind = "assigned"
	Requeued   EventKind = "requeued" // assigned but not picked up
	Started    EventKind = "started"
	Ended      EventKind = "ended" // Detail is the conclusion
	Lost       EventKind = "lost"  // a session died without a word
)

func (e Event) String() string {
	return fmt.Sprintf("%s %s runner=%s job=%d %s", e.At.Format("15:04:05.000"), e.Kind, e.Runner, e.Job, e.Detail)
}

func (h *Hub) note(kind EventKind, r *registration, j *job, detail string) {
	e := Event{At: h.clock.Now(), Kind: kind, Detail: detail}
	if r != nil {
		e.Runner, e.ID = r.name, r.id
	}
	if j != nil {
		e.Job = j.id
	}
	h.history = append(h.history, e)
}

// History is what happened so far, in order.
func (h *Hub) History() []Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Event(nil), h.history...)
}

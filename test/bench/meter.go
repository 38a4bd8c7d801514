package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// moment is a kind of thing whose time is taken.
type moment string

const (
	accepted  moment = "accepted"  // a webhook's answer, 2xx, is here: queued
	completed moment = "completed" // the same: completed
	started   moment = "started"   // the request to start a container came
	destroyed moment = "destroyed" // the request to destroy one came
	changed   moment = "changed"   // any other request that changes something
)

// mark is one thing that happened, on this process's clock.
type mark struct {
	at   time.Time
	what moment
	vmid int
	job  hub.JobID
}

// meter takes the time of what reaches the world, before the world acts on it.
type meter struct {
	mu       sync.Mutex
	marks    []mark
	more     chan struct{} // closed at the next mark
	requests int           // to both APIs
}

func newMeter() *meter { return &meter{more: make(chan struct{})} }

func (m *meter) note(k mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.marks = append(m.marks, k)
	close(m.more)
	m.more = make(chan struct{})
}

// now is the place of the next mark.
func (m *meter) now() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.marks)
}

// quiet reports how long nothing was changed or delivered.
func (m *meter) quiet() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.marks) == 0 {
		return time.Hour
	}
	return time.Since(m.marks[len(m.marks)-1].at)
}

// count is how many requests both APIs got.
func (m *meter) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.requests
}

// all are the marks of one kind from a place on.
func (m *meter) all(what moment, from int) []mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []mark
	for _, k := range m.marks[from:] {
		if k.what == what {
			found = append(found, k)
		}
	}
	return found
}

// patience bounds the wait for one thing.
const patience = 60 * time.Second

// await waits for the first mark from a place on that suits.
func (m *meter) await(ctx context.Context, from int, what moment, suits func(mark) bool) (mark, error) {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		m.mu.Lock()
		for ; from < len(m.marks); from++ {
			if k := m.marks[from]; k.what == what && suits(k) {
				m.mu.Unlock()
				return k, nil
			}
		}
		more := m.more
		m.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return mark{}, context.Cause(ctx)
		case <-timeout.C:
			return mark{}, fmt.Errorf("wait for %q: not within %s", what, patience)
		}
	}
}

func anyMark(mark) bool { return true }

func of(id hub.JobID) func(mark) bool { return func(k mark) bool { return k.job == id } }

func on(vmid int) func(mark) bool { return func(k mark) bool { return k.vmid == vmid } }

var containerPath = regexp.MustCompile(`^/api2/json/nodes/[^/]+/lxc/([0-9]+)(/status/start)?$`)

// proxmox notes the requests that change something.
func (m *meter) proxmox(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.request(r.Method, func() mark {
			k := mark{what: changed}
			if p := containerPath.FindStringSubmatch(r.URL.Path); p != nil {
				k.vmid, _ = strconv.Atoi(p[1])
				switch {
				case r.Method == http.MethodPost && p[2] != "":
					k.what = started
				case r.Method == http.MethodDelete && p[2] == "":
					k.what = destroyed
				}
			}
			return k
		})
		h.ServeHTTP(w, r)
	})
}

func (m *meter) github(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.request(r.Method, func() mark { return mark{what: changed} })
		h.ServeHTTP(w, r)
	})
}

func (m *meter) request(method string, what func() mark) {
	at := time.Now()
	m.mu.Lock()
	m.requests++
	m.mu.Unlock()
	if method != http.MethodGet {
		k := what()
		k.at = at
		m.note(k)
	}
}

// webhook is GitHub's way to the daemon, which notes when a delivery was
// accepted.
func (m *meter) webhook() http.RoundTripper {
	return observed{m, &http.Transport{MaxIdleConnsPerHost: 64}}
}

type observed struct {
	m    *meter
	next http.RoundTripper
}

func (o observed) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := o.next.RoundTrip(r)
	at := time.Now()
	if err != nil || resp.StatusCode >= 300 || r.GetBody == nil {
		return resp, err
	}
	body, err := r.GetBody()
	if err != nil {
		return resp, err
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		return resp, err
	}
	var event struct {
		Action string `json:"action"`
		Job    struct {
			ID hub.JobID `json:"id"`
		} `json:"workflow_job"`
	}
	if json.NewDecoder(bytes.NewReader(raw)).Decode(&event) == nil {
		switch event.Action {
		case "queued":
			o.m.note(mark{at: at, what: accepted, job: event.Job.ID})
		case "completed":
			o.m.note(mark{at: at, what: completed, job: event.Job.ID})
		}
	}
	return resp, nil
}

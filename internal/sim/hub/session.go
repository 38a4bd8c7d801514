package hub

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// said is an error in the words of the Actions service or of the runner.
type said string

func (s said) Error() string { return string(s) }

// What can come in a runner's way.
const (
	ErrConflict   said = "A session for this runner already exists."
	ErrGone       said = "The runner registration has been deleted from the server"
	ErrDeprecated said = "Runner version is deprecated and cannot receive messages"
	ErrBadConfig  said = "decode JIT config: not a runner configuration"
	ErrNoJob      said = "acquire job: it was cancelled or given to another runner"
	ErrLost       said = "the connection to GitHub is lost"
)

// Listener is how a session hears of things. The functions are called without
// the hub's lock and must not wait.
type Listener struct {
	Assigned  func(JobAssignment) // a job: call Session.Start
	Cancelled func(JobID)         // someone cancelled the running job: call Session.Finish
	Closed    func(error)         // the server ended the session: ErrGone, ErrDeprecated
}

// Session is a runner's connection to the Actions service.
type Session struct {
	hub       *Hub
	r         *registration
	listener  Listener
	listening bool
	starved   bool // it never gets a job
	lost      bool // dead without a word
	closed    bool
}

// Connect opens the session of a JIT config, as Runner.Listener does at its
// start. A config works once: ErrConflict after that, ErrGone when its
// registration is no more, ErrDeprecated when the version is refused.
func (h *Hub) Connect(encodedJIT, version string) (*Session, error) {
	h.enter()
	defer h.leave()
	if err := decodeJIT(encodedJIT); err != nil {
		return nil, err
	}
	r := h.configs[encodedJIT]
	switch {
	case r == nil:
		return nil, fmt.Errorf("connect: %w", ErrBadConfig)
	case !r.removed.IsZero():
		h.note(Refused, r, nil, "deleted")
		return nil, ErrGone
	case r.used:
		h.note(Refused, r, nil, "session conflict")
		return nil, ErrConflict
	}
	r.version = version
	if h.versions.Policy == RefuseSession && h.tooOld(version) {
		h.note(Refused, r, nil, "version "+version)
		return nil, refusedVersion(version)
	}
	r.stale.Stop()
	r.used, r.online = true, true
	r.session = &Session{hub: h, r: r, starved: h.versions.Policy == Starve && h.tooOld(version)}
	h.note(Connected, r, nil, version)
	return r.session, nil
}

// decodeJIT is what the runner does with the config first.
func decodeJIT(encoded string) error {
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return ErrBadConfig
	}
	var files map[string]string
	if json.Unmarshal(b, &files) != nil || files[".runner"] == "" {
		return ErrBadConfig
	}
	return nil
}

// heard reports whether messages reach the runner.
func (s *Session) heard() bool { return !s.lost && !s.closed && !s.hub.closed }

// Name is the registration's name.
func (s *Session) Name() string { return s.r.name }

// Listen makes the runner take jobs.
func (s *Session) Listen(l Listener) error {
	h := s.hub
	h.enter()
	defer h.leave()
	switch {
	case !s.r.removed.IsZero():
		return ErrGone
	case !s.heard():
		return ErrLost
	}
	s.listener, s.listening = l, true
	h.note(Listening, s.r, nil, "")
	if h.versions.Policy == RefuseMessages && h.tooOld(s.r.version) {
		h.offline(s.r)
		h.endSession(s, refusedVersion(s.r.version))
		return nil
	}
	h.awaitUnwanted(s.r)
	h.available(s.r)
	h.dispatch()
	return nil
}

// awaitUnwanted removes a runner that idles, if that is the hub's habit.
func (h *Hub) awaitUnwanted(r *registration) {
	if !h.chance(h.habits.RemoveIdle) {
		return
	}
	r.unwanted = h.in(2*time.Minute+time.Duration(h.rng.Int64N(int64(4*time.Minute))), func() {
		if r.job == nil && r.online {
			h.remove(r, "idle")
		}
	})
}

// Start takes the assigned job: it is in progress, the runner busy.
func (s *Session) Start(id JobID) error {
	h := s.hub
	h.enter()
	defer h.leave()
	j := s.r.job
	switch {
	case !s.heard():
		return ErrLost
	case j == nil || j.id != id || j.status != StatusQueued:
		return ErrNoJob
	}
	j.pickup.Stop()
	j.expiry.Stop()
	s.r.unwanted.Stop()
	s.r.lastRan = j.id
	s.r.lying = h.chance(h.habits.BusyLies)
	j.status, j.started, j.ran = StatusInProgress, h.clock.Now(), s.r
	j.run.touch(j.started)
	h.note(Started, s.r, j, "")
	h.sendJob(j, string(StatusInProgress))
	return nil
}

// Finish reports the end of the running job. The registration, being
// ephemeral, is gone with it.
func (s *Session) Finish(id JobID, c Conclusion) error {
	h := s.hub
	h.enter()
	defer h.leave()
	j := s.r.job
	if !s.heard() {
		return ErrLost
	}
	if j == nil || j.id != id || j.status != StatusInProgress {
		return ErrNoJob
	}
	if j.cancelling {
		c = Cancelled
	}
	s.closed, s.r.online, s.r.session = true, false, nil
	h.complete(j, c)
	return nil
}

// Close ends the session in good order, as a runner that is told to stop does.
// A job that runs fails: "The runner has received a shutdown signal".
func (s *Session) Close() {
	h := s.hub
	h.enter()
	defer h.leave()
	if !s.heard() {
		return
	}
	s.closed, s.r.session = true, nil
	h.offline(s.r)
	j := s.r.job
	if j == nil {
		return
	}
	if j.status == StatusInProgress {
		j.lost = true
		h.complete(j, Failure)
	}
	// A job that was assigned but not started goes back after its minute.
}

// Lost ends the session without a word: a crash, a container that was stopped,
// a cut cable. GitHub finds out later: the registration shows online for a
// minute more and may be given a job; a job that runs fails after 9.5 minutes.
func (s *Session) Lost() {
	h := s.hub
	h.enter()
	defer h.leave()
	if !s.heard() {
		return
	}
	s.lost = true
	j := s.r.job
	h.note(Lost, s.r, j, "")
	h.in(silentFor, func() {
		if s.r.session == s {
			h.offline(s.r)
		}
	})
	if j == nil || j.status != StatusInProgress {
		return
	}
	j.silence = h.in(lostAfter, func() {
		c := Failure
		if j.cancelling {
			c = Cancelled
		}
		j.lost = true
		s.r.online = false
		h.complete(j, c)
		h.dispatch()
	})
}

// offline takes the runner from the list and starts its day of grace.
func (h *Hub) offline(r *registration) {
	if !r.online {
		return
	}
	r.online = false
	h.retire(r)
	if s := r.session; s != nil {
		s.listening = false
	}
	if r.removed.IsZero() {
		h.awaitStale(r)
	}
}

// endSession is the server's end of a session; the runner is told why.
func (h *Hub) endSession(s *Session, why error) {
	heard := s.heard()
	s.closed, s.r.online, s.r.session = true, false, nil
	if heard && s.listener.Closed != nil {
		h.afterLock(func() { s.listener.Closed(why) })
	}
}

package hub

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// visit is the session of a real runner, which polls for messages.
type visit struct {
	*Session
	messages []message
	woken    chan struct{} // closed when there is a message; a new one then
	polls    int           // that are open
	silence  *stage.Entry
}

// message is what a poll may be answered with.
type message struct {
	Type string `json:"messageType"` // RunnerJobRequest, JobCancellation, Closed
	Job  JobID  `json:"jobId,omitempty"`
	Text string `json:"text,omitempty"`
}

const (
	pollFor    = 50 * time.Second // as the broker's (runner, BrokerMessageListener)
	quietFor   = 5 * time.Second  // a runner that does not poll again is lost
	maxJobLog  = 4 << 20
	maxMessage = 1 << 20
)

// Broker is the part of the Actions service that real runners speak to, far
// simpler than GitHub's own: a session proves itself with its whole JIT config
// where GitHub has it sign. A runner whose connection breaks is lost.
func (h *Hub) Broker() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /session", h.openVisit)
	mux.HandleFunc("GET /message", h.visited(h.poll))
	mux.HandleFunc("POST /acquirejob", h.visited(h.acquire))
	mux.HandleFunc("POST /log", h.visited(h.appendLog))
	mux.HandleFunc("POST /completejob", h.visited(h.finishJob))
	mux.HandleFunc("DELETE /session", h.visited(h.closeVisit))
	return mux
}

// brokerCodes are the errors of a session as statuses.
var brokerCodes = []struct {
	err  error
	code int
}{
	{ErrConflict, http.StatusConflict}, {ErrGone, http.StatusUnauthorized}, {ErrDeprecated, http.StatusForbidden},
	{ErrBadConfig, http.StatusBadRequest}, {ErrNoJob, http.StatusNotFound}, {ErrLost, http.StatusGone},
}

func brokerError(w http.ResponseWriter, err error) {
	for _, c := range brokerCodes {
		if errors.Is(err, c.err) {
			http.Error(w, err.Error(), c.code)
			return
		}
	}
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

func (h *Hub) openVisit(w http.ResponseWriter, r *http.Request) {
	config := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s, err := h.Connect(config, r.URL.Query().Get("version"))
	if err != nil {
		brokerError(w, err)
		return
	}
	v := &visit{Session: s, woken: make(chan struct{})}
	h.mu.Lock()
	id := h.uuid()
	h.visits[id] = v
	h.mu.Unlock()
	h.hush(v)
	err = s.Listen(Listener{
		Assigned:  func(a JobAssignment) { h.tell(v, message{Type: "RunnerJobRequest", Job: a.ID}) },
		Cancelled: func(id JobID) { h.tell(v, message{Type: "JobCancellation", Job: id}) },
		Closed:    func(err error) { h.tell(v, message{Type: "Closed", Text: err.Error()}) },
	})
	if err != nil {
		brokerError(w, err)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"sessionId": id})
}

// tell gives a runner one message.
func (h *Hub) tell(v *visit, m message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v.messages = append(v.messages, m)
	close(v.woken)
	v.woken = make(chan struct{})
}

// visited finds the session of a request.
func (h *Hub) visited(next func(*visit, http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		v := h.visits[r.URL.Query().Get("session")]
		h.mu.Unlock()
		if v == nil {
			brokerError(w, ErrGone)
			return
		}
		next(v, w, r)
	}
}

// hush loses the runner unless it polls again in time.
func (h *Hub) hush(v *visit) {
	e := h.agenda.After(quietFor, v.Lost)
	h.mu.Lock()
	defer h.mu.Unlock()
	v.silence.Stop()
	v.silence = e
}

func (h *Hub) poll(v *visit, w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	v.silence.Stop()
	v.polls++
	h.mu.Unlock()
	m, there := h.await(v, r)
	h.mu.Lock()
	v.polls--
	alone := v.polls == 0
	h.mu.Unlock()
	if alone {
		h.hush(v)
	}
	if !there {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	_ = json.NewEncoder(w).Encode(m)
}

// await waits for a message, as long as a poll lasts.
func (h *Hub) await(v *visit, r *http.Request) (message, bool) {
	late := time.NewTimer(pollFor)
	defer late.Stop()
	for {
		h.mu.Lock()
		woken := v.woken
		if len(v.messages) > 0 {
			m := v.messages[0]
			v.messages = v.messages[1:]
			h.mu.Unlock()
			return m, true
		}
		h.mu.Unlock()
		select {
		case <-woken:
		case <-late.C:
			return message{}, false
		case <-r.Context().Done():
			return message{}, false
		}
	}
}

func jobParam(r *http.Request) JobID {
	id, _ := strconv.ParseInt(r.URL.Query().Get("job"), 10, 64)
	return JobID(id)
}

// acquire starts the job and says what it is.
func (h *Hub) acquire(v *visit, w http.ResponseWriter, r *http.Request) {
	id := jobParam(r)
	if err := v.Start(id); err != nil {
		brokerError(w, err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	j := h.job(id)
	_ = json.NewEncoder(w).Encode(map[string]any{"jobId": id, "name": j.name, "repository": j.run.repo.full, "steps": j.work})
}

func (h *Hub) appendLog(v *visit, w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(io.LimitReader(r.Body, maxMessage))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if j := h.job(jobParam(r)); j != nil && j.ran == v.r && j.log.Len() < maxJobLog {
		j.log.Write(text)
	}
}

func (h *Hub) finishJob(v *visit, w http.ResponseWriter, r *http.Request) {
	if err := v.Finish(jobParam(r), Conclusion(r.URL.Query().Get("conclusion"))); err != nil {
		brokerError(w, err)
		return
	}
	h.leaveVisit(v, r)
}

func (h *Hub) closeVisit(v *visit, _ http.ResponseWriter, r *http.Request) {
	v.Close()
	h.leaveVisit(v, r)
}

func (h *Hub) leaveVisit(v *visit, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v.silence.Stop()
	delete(h.visits, r.URL.Query().Get("session"))
}

// JobLog is what a real runner has sent of a job's log.
func (h *Hub) JobLog(id JobID) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if j := h.job(id); j != nil {
		return j.log.String()
	}
	return ""
}

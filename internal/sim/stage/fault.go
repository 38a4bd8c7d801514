package stage

import (
	"context"
	"net/http"
	"time"
)

// Fault is what goes wrong with one exchange. The zero value is no fault.
type Fault struct {
	Delay   time.Duration // passes before anything else happens
	Refuse  bool          // the request never arrives: no effect, no answer
	Lose    bool          // the effect happens, the answer is lost
	Code    int           // the answer is replaced by this status ...
	Reason  string        // ... and this reason phrase
	Body    string        // ... and this body
	Header  http.Header   // ... and these headers
	Applied bool          // with Code: the effect happens all the same
}

// WithFaults puts decide in front of h: it is asked once for every request.
func WithFaults(h http.Handler, clock *Clock, decide func(*http.Request) Fault) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := decide(r)
		if f.Delay > 0 {
			if clock.Sleep(r.Context(), f.Delay) != nil {
				Hangup()
			}
		}
		switch {
		case f.Refuse:
			Hangup()
		case f.Lose:
			h.ServeHTTP(newRecorder(), r)
			Hangup()
		case f.Code != 0:
			if f.Applied {
				h.ServeHTTP(newRecorder(), r)
			}
			for k, v := range f.Header {
				w.Header()[k] = v
			}
			Reply(w, f.Code, f.Reason, []byte(f.Body))
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// detached keeps a context's values but not its end.
type detached struct{ context.Context }

func (detached) Deadline() (time.Time, bool) { return time.Time{}, false }
func (detached) Done() <-chan struct{}       { return nil }
func (detached) Err() error                  { return nil }

package stage

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// reasoner is a ResponseWriter that can carry a reason phrase of its own.
type reasoner interface {
	WriteReason(code int, reason string)
}

// Reply writes a whole response with its own reason phrase. net/http writes
// only standard phrases, but Proxmox says what went wrong in the status line
// (pve-http-server, AnyEvent.pm), so on a socket the connection is taken over
// and closed afterwards, as pveproxy does for every status of 400 and above.
func Reply(w http.ResponseWriter, code int, reason string, body []byte) {
	if r, ok := w.(reasoner); ok {
		r.WriteReason(code, reason)
		_, _ = w.Write(body)
		return
	}
	if reason == http.StatusText(code) {
		w.WriteHeader(code)
		_, _ = w.Write(body)
		return
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(fmt.Sprintf("stage: reply %d needs HTTP/1: %v", code, err))
	}
	defer conn.Close()
	h := w.Header().Clone()
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Connection", "close")
	fmt.Fprintf(buf, "HTTP/1.1 %d %s\r\n", code, oneLine(reason))
	_ = h.Write(buf)
	_, _ = buf.WriteString("\r\n")
	_, _ = buf.Write(body)
	_ = buf.Flush()
}

// Hangup ends the exchange without an answer: the client sees an EOF.
func Hangup() { panic(http.ErrAbortHandler) }

func oneLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// Transport is an http.RoundTripper that calls Handler in-process, without a
// socket. It keeps http.Client's promises that matter: the context ends the
// wait (the handler's effect may still happen), and a handler that hangs up
// gives io.ErrUnexpectedEOF.
type Transport struct{ Handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	in, err := incoming(req)
	if err != nil {
		return nil, err
	}
	done := make(chan *recorder, 1)
	go func() {
		rec := newRecorder()
		defer func() {
			if p := recover(); p != nil {
				if p != http.ErrAbortHandler {
					panic(p)
				}
				rec = nil
			}
			done <- rec
		}()
		t.Handler.ServeHTTP(rec, in)
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case rec := <-done:
		if rec == nil {
			return nil, io.ErrUnexpectedEOF
		}
		return rec.response(req), nil
	}
}

// incoming turns a client's request into what a server would receive. The
// server's context does not end with the client's: Proxmox finishes a request
// whose client went away.
func incoming(req *http.Request) (*http.Request, error) {
	var body []byte
	if req.Body != nil {
		b, err := io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err != nil {
			return nil, err
		}
		body = b
	}
	in := req.Clone(detached{req.Context()})
	in.Body = io.NopCloser(bytes.NewReader(body))
	in.ContentLength = int64(len(body))
	in.RequestURI = req.URL.RequestURI()
	in.RemoteAddr = "127.0.0.1:1"
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/1.1", 1, 1
	if in.Host == "" {
		in.Host = req.URL.Host
	}
	return in, nil
}

type recorder struct {
	header http.Header
	sent   http.Header
	code   int
	reason string
	body   bytes.Buffer
}

func newRecorder() *recorder { return &recorder{header: http.Header{}} }

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(code int) { r.WriteReason(code, http.StatusText(code)) }

// WriteReason implements reasoner.
func (r *recorder) WriteReason(code int, reason string) {
	if r.code != 0 {
		return
	}
	r.code, r.reason, r.sent = code, oneLine(reason), r.header.Clone()
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.code == 0 {
		r.WriteHeader(http.StatusOK)
	}
	return r.body.Write(b)
}

func (r *recorder) response(req *http.Request) *http.Response {
	if r.code == 0 {
		r.WriteHeader(http.StatusOK)
	}
	return &http.Response{
		Status: strconv.Itoa(r.code) + " " + r.reason, StatusCode: r.code,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: r.sent, Body: io.NopCloser(bytes.NewReader(r.body.Bytes())),
		ContentLength: int64(r.body.Len()), Request: req,
	}
}

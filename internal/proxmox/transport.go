package proxmox

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

const (
	// answerTimeout is a little more than the 30 s after which pveproxy
	// gives up on pvedaemon and answers 596 itself (pve-http-server,
	// AnyEvent.pm).
	answerTimeout = 35 * time.Second

	// idleTimeout is less than the 5 s after which pveproxy closes idle
	// connections, so that no request goes out on a connection that is
	// being closed.
	idleTimeout = 3500 * time.Millisecond

	maxAnswer = 64 << 20
)

// transport turns every answer that is no success into an *Error before
// go-proxmox sees it, bounds the requests open to one node, and logs requests
// without their bodies.
type transport struct {
	next  http.RoundTripper
	limit int
	log   *slog.Logger

	mu    sync.Mutex
	gates map[string]chan struct{} // by node; "" is what concerns no node
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	gate := t.gate(nodeOf(req.URL.Path))
	select {
	case gate <- struct{}{}:
		defer func() { <-gate }()
	case <-req.Context().Done():
		closeBody(req)
		return nil, unsent(req, req.Context().Err())
	}
	if err := req.Context().Err(); err != nil {
		closeBody(req)
		return nil, unsent(req, err)
	}
	ctx, cancel := context.WithTimeout(req.Context(), answerTimeout)
	defer cancel()
	begin := time.Now()
	res, body, err := exchange(t.next, req.WithContext(ctx))
	t.note(req, res, err, time.Since(begin))
	switch {
	case err != nil && neverSent(err):
		return nil, unsent(req, err)
	case err != nil:
		return nil, unanswered(req, err)
	case res.StatusCode >= 300:
		return nil, refusal(req, res, body)
	}
	if wanted, ok := ctx.Value(bodyKey{}).(*[]byte); ok {
		*wanted, body = body, nil // see Client.ask
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

// CloseIdleConnections is what http.Client passes on.
func (t *transport) CloseIdleConnections() { (&http.Client{Transport: t.next}).CloseIdleConnections() }

func exchange(rt http.RoundTripper, req *http.Request) (*http.Response, []byte, error) {
	res, err := rt.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = errors.New("answer is larger than 64 MiB")
	}
	return res, body, err
}

// note logs the request line: bodies hold JIT configs.
func (t *transport) note(req *http.Request, res *http.Response, err error, took time.Duration) {
	ctx := context.WithoutCancel(req.Context())
	if !t.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{slog.String("method", req.Method), slog.String("path", req.URL.Path), slog.Duration("took", took)}
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	} else {
		attrs = append(attrs, slog.String("status", res.Status))
	}
	t.log.LogAttrs(ctx, slog.LevelDebug, "proxmox request", attrs...)
}

func (t *transport) gate(node string) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.gates[node]
	if g == nil {
		g = make(chan struct{}, t.limit)
		t.gates[node] = g
	}
	return g
}

// nodeOf is NODE in /api2/json/nodes/NODE/...
func nodeOf(path string) string {
	_, rest, ok := strings.Cut(path, "/nodes/")
	if !ok {
		return ""
	}
	node, _, _ := strings.Cut(rest, "/")
	return node
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// neverSent recognises errors that come before a request's first byte is out.
func neverSent(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	_, ok := errors.AsType[tls.RecordHeaderError](err) // the server speaks no TLS
	return ok
}

func unsent(req *http.Request, err error) *Error {
	return &Error{Method: req.Method, Path: req.URL.Path, Reason: err.Error(), Kind: fleet.ErrUnavailable, Cause: err}
}

func unanswered(req *http.Request, err error) *Error {
	e := unsent(req, err)
	e.Reason = "no answer: " + e.Reason
	if req.Method != http.MethodGet {
		e.Kind = fleet.ErrUnknownOutcome
	}
	return e
}

// wire is the transport to a real pveproxy, which speaks HTTP/1 only.
func wire(conf *tls.Config, requests int) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  nil, // Proxmox is on the management network; no proxy may see the token
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    10 * time.Second,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    requests,
		MaxConnsPerHost:        4 * requests, // one pveproxy stands before all nodes
		MaxResponseHeaderBytes: 64 << 10,
		Protocols:              protocols,
	}
}

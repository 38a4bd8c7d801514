package github

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// maxAnswer bounds the answers that are read. A page of a hundred runs, each
// with its repository and commit, is a few MB; a delivery holds up to 25 MB.
const maxAnswer = 64 << 20

// wire is the RoundTripper under go-github. It adds the credential, keeps to
// the limits, answers unchanged GETs from memory, and turns every answer that
// is not a success into an error. go-github sees neither a refusal nor a rate
// header, because of either it would refuse all calls by itself.
type wire struct {
	base   http.RoundTripper
	clock  *clock
	limits *limits
	cache  *cache
	log    *slog.Logger
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	cl, ok := req.Context().Value(callKey{}).(*call)
	if !ok {
		return nil, errors.New("github: a request outside do")
	}
	resp, err := w.exchange(req, cl)
	cl.err = err
	return resp, err
}

func (w *wire) exchange(req *http.Request, cl *call) (*http.Response, error) {
	ln := lane{cl.account, cl.class}
	if err := w.limits.pace(req.Context(), ln); err != nil {
		return nil, err
	}
	if err := w.limits.admit(ln); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(req.Context(), cl.bound)
	defer cancel()
	out := req.Clone(ctx)
	out.Header.Set("Authorization", "Bearer "+cl.secret)
	key, have := w.cache.prepare(out, cl.account)

	sent := w.clock.now()
	cl.sent = true
	resp, err := w.base.RoundTrip(out)
	if err != nil {
		return nil, w.failure(cl, req.Context(), err)
	}
	body, err := readAll(resp)
	if err != nil {
		return nil, w.failure(cl, req.Context(), err)
	}
	w.clock.observe(resp.Header, sent, w.clock.now())
	return w.judge(req, cl, resp, body, key, have)
}

// judge decides what an answer means.
func (w *wire) judge(req *http.Request, cl *call, resp *http.Response, body []byte, key string, have *entry) (*http.Response, error) {
	status, text := resp.StatusCode, ""
	if status >= 300 && status != http.StatusNotModified {
		text = message(body, cl.secret)
	}
	if err := w.limits.observe(lane{cl.account, cl.class}, status, resp.Header, text); err != nil {
		w.log.Warn("github limits us", "reason", err.Error())
		return nil, err
	}
	switch {
	case status == http.StatusNotModified && have != nil:
		return have.response(req), nil
	case status < 200 || status >= 300:
		return nil, refusal(cl.class, status, resp.Header, body, cl.secret)
	}
	w.cache.store(key, resp.Header, body)
	return answer(req, status, resp.Header, body), nil
}

// failure says what an exchange without an answer means. Where no connection
// came about, or its certificate was not trusted, nothing happened; everywhere
// else a write may have.
func (w *wire) failure(cl *call, caller context.Context, err error) error {
	kind := lost(cl.class)
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" || distrusted(err) {
		kind = fleet.ErrUnavailable
	}
	if errors.Is(err, context.DeadlineExceeded) && caller.Err() == nil {
		return fmt.Errorf("%w: no answer from GitHub within %v: %w", kind, cl.bound, err)
	}
	return fmt.Errorf("%w: no answer from GitHub: %w", kind, err)
}

func distrusted(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

func readAll(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("answer of more than %d MiB", maxAnswer>>20)
	}
	return body, err
}

// answer makes the response that go-github sees.
func answer(req *http.Request, status int, header http.Header, body []byte) *http.Response {
	h := http.Header{}
	for _, k := range []string{"Link", "Content-Type", "Etag"} {
		if v := header.Values(k); len(v) > 0 {
			h[k] = v
		}
	}
	return &http.Response{
		Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}
}

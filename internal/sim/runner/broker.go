package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// said is what the broker refuses with, in the runner's words.
type said string

func (s said) Error() string { return string(s) }

// is reports whether a text of the server's says so.
func (s said) is(text string) bool { return strings.Contains(text, string(s)) }

const (
	errConflict   said = "A session for this runner already exists."
	errGone       said = "The runner registration has been deleted from the server"
	errDeprecated said = "is deprecated and cannot receive messages"
	errBadConfig  said = "The configuration is not valid."
)

var refusals = map[int]error{
	http.StatusConflict: errConflict, http.StatusUnauthorized: errGone, http.StatusForbidden: errDeprecated, http.StatusBadRequest: errBadConfig,
}

// broker speaks to the simulated GitHub.
type broker struct {
	url     string
	config  string
	version string
	session string
}

type message struct {
	Type string `json:"messageType"`
	Job  int64  `json:"jobId"`
	Text string `json:"text"`
}

// job is what a worker is told to run.
type job struct {
	ID         int64  `json:"jobId"`
	Name       string `json:"name"`
	Repository string `json:"repository"`
	Steps      []struct {
		Name string `json:"name"`
		Run  string `json:"run"`
	} `json:"steps"`
	Broker  string `json:"broker,omitempty"`
	Session string `json:"session,omitempty"`
}

// No request outlives a poll by much; a connection that is not made at once is
// not made.
var client = &http.Client{Timeout: 70 * time.Second}

func (b *broker) call(ctx context.Context, method, path string, query url.Values, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(b.url, "/")+path+"?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	if b.config != "" {
		req.Header.Set("Authorization", "Bearer "+b.config)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch refused := refusals[resp.StatusCode]; {
	case err != nil:
		return err
	case refused != nil:
		return fmt.Errorf("%w (%s)", refused, strings.TrimSpace(string(text)))
	case resp.StatusCode >= 300:
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
	case into == nil || len(text) == 0:
		return nil
	}
	return json.Unmarshal(text, into)
}

func (b *broker) in(job int64) url.Values {
	q := url.Values{"session": {b.session}}
	if job != 0 {
		q.Set("job", strconv.FormatInt(job, 10))
	}
	return q
}

func (b *broker) open(ctx context.Context) error {
	var s struct{ SessionID string }
	err := b.call(ctx, http.MethodPost, "/session", url.Values{"version": {b.version}}, nil, &s)
	b.session = s.SessionID
	return err
}

func (b *broker) message(ctx context.Context) (message, error) {
	var m message
	err := b.call(ctx, http.MethodGet, "/message", b.in(0), nil, &m)
	return m, err
}

func (b *broker) acquire(ctx context.Context, id int64) (job, error) {
	var j job
	err := b.call(ctx, http.MethodPost, "/acquirejob", b.in(id), nil, &j)
	return j, err
}

// What ends a session or a job is said even when we are told to stop.
const lastWords = 10 * time.Second

func (b *broker) complete(id int64, conclusion string) error {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	q := b.in(id)
	q.Set("conclusion", conclusion)
	return b.call(ctx, http.MethodPost, "/completejob", q, nil, nil)
}

func (b *broker) close() {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	_ = b.call(ctx, http.MethodDelete, "/session", b.in(0), nil, nil)
}

func (b *broker) log(id int64, text []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	return b.call(ctx, http.MethodPost, "/log", b.in(id), text, nil)
}

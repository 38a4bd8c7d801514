package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// mold makes deliveries after the three that GitHub sends of one job.
type mold struct {
	id     []byte   // the job's, in the bodies
	bodies [][]byte // queued, in_progress, completed
	jobs   int64    // made so far
	sent   int64
}

// newMold has a job run in a world of its own and keeps what is sent of it.
func newMold(ctx context.Context) (*mold, error) {
	h, err := byHand(ctx, setting{})
	if err != nil {
		return nil, err
	}
	defer h.close()
	keep := &keeper{}
	h.w.GitHub.SetWebhook(hub.Webhook{URL: "http://localhost/webhook", Secret: webhookSecret, Transport: keep})
	config, err := h.jit(ctx, "another-program-s-runner")
	if err != nil {
		return nil, err
	}
	id := h.w.queue(0)
	session, err := h.w.GitHub.Connect(config, "2.335.1")
	if err != nil {
		return nil, err
	}
	over := make(chan error, 1)
	err = session.Listen(hub.Listener{Assigned: func(a hub.JobAssignment) {
		h.w.Clock.AfterFunc(0, func() {
			if err := session.Start(a.ID); err != nil {
				over <- err
				return
			}
			over <- session.Finish(a.ID, hub.Success)
		})
	}})
	if err == nil {
		err = <-over
	}
	if err == nil {
		err = wait(ctx, "the job's webhooks are sent", func() bool { return len(keep.all()) == 3 })
	}
	if err != nil {
		return nil, err
	}
	m := &mold{id: strconv.AppendInt(nil, int64(id), 10)}
	for _, body := range keep.all() {
		// No pool has this label.
		m.bodies = append(m.bodies, bytes.ReplaceAll(body, []byte(`"x64"`), []byte(`"arm64"`)))
	}
	return m, nil
}

// cast makes n deliveries as they go over the wire: a block of jobs is queued,
// then all of it starts, then all of it ends.
func (m *mold) cast(n int) [][]byte {
	var list [][]byte
	for len(list) < n {
		for _, body := range m.bodies {
			for i := range int64(perBlock) {
				list = append(list, m.request(body, m.jobs+i))
			}
		}
		m.jobs += perBlock
	}
	return list[:n]
}

// request is a signed delivery of a job with a number of its own.
func (m *mold) request(body []byte, job int64) []byte {
	body = bytes.ReplaceAll(body, m.id, strconv.AppendInt(nil, 39_000_000_000+job, 10))
	mac := hmac.New(sha256.New, []byte(webhookSecret))
	mac.Write(body)
	m.sent++
	head := fmt.Sprintf("POST /webhook HTTP/1.1\r\nHost: localhost\r\nUser-Agent: GitHub-Hookshot/3c5a7b1\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\nX-GitHub-Event: workflow_job\r\n"+
		"X-GitHub-Delivery: %08x-0000-11ef-8000-%012x\r\nX-Hub-Signature-256: sha256=%s\r\n\r\n",
		len(body), uint32(m.sent*2654435761), m.sent, hex.EncodeToString(mac.Sum(nil)))
	return append([]byte(head), body...)
}

// keeper is a receiver that keeps what it is sent.
type keeper struct {
	mu     sync.Mutex
	bodies [][]byte
}

func (k *keeper) all() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.bodies
}

// RoundTrip implements http.RoundTripper.
func (k *keeper) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.bodies = append(k.bodies, body)
	return &http.Response{
		StatusCode: http.StatusAccepted, Status: "202 Accepted", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}, Body: http.NoBody, Request: r,
	}, nil
}

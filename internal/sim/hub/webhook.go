package hub

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Webhook is the App's webhook.
type Webhook struct {
	URL       string // where to deliver; empty means the webhook is not active
	Secret    string // of the HMAC
	Transport http.RoundTripper
}

// receiverTimeout is how long GitHub waits for a receiver (docs).
const receiverTimeout = 10 * time.Second

func (w Webhook) orDefaults() Webhook {
	if w.Transport == nil {
		// No connection is kept: an idle one has goroutines.
		w.Transport = &http.Transport{DisableKeepAlives: true}
	}
	return w
}

// SetWebhook sets the App's webhook.
func (h *Hub) SetWebhook(w Webhook) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.webhook = w.orDefaults()
	if w.Secret != "" {
		h.secrets = append(h.secrets, w.Secret)
	}
}

// postOffice is the state of all webhook deliveries.
type postOffice struct {
	lanes      map[int64]*lane
	scripted   []Fate
	deliveries []*delivery // by id
	unsent     int
}

// lane keeps the webhooks of one job in order, as they are unless something
// goes wrong. Lanes know nothing of each other.
type lane struct {
	waiting []*parcel
	held    *parcel // to be overtaken by the next one
	moving  bool
}

// parcel is a webhook on its way.
type parcel struct {
	event, action string
	guid          string
	body          []byte
	in            InstallationID
	repo          RepositoryID
	fate          Fate
	secret        string // to sign with; empty means the App's
	redelivery    bool
	due           time.Time
}

// send posts an event in the lane of key.
func (h *Hub) send(key int64, p *parcel) {
	if h.webhook.URL == "" || h.closed {
		return
	}
	p.guid, p.fate = h.uuid(), h.fate()
	if p.fate.lose {
		return
	}
	if p.fate.forge {
		forged := *p
		forged.guid, forged.fate, forged.secret = h.uuid(), Fate{}, "not-the-secret"
		h.put(key, &forged)
	}
	if p.fate.late > 0 {
		h.post.unsent++
		h.in(h.timing.Webhook+p.fate.late, func() {
			h.post.unsent--
			h.put(key, p)
		})
		return
	}
	h.put(key, p)
}

// put adds the parcel to its lane, behind the job's earlier ones; a timer sets
// the lane in motion when it is due.
func (h *Hub) put(key int64, p *parcel) {
	l := h.post.lanes[key]
	if l == nil {
		l = &lane{}
		h.post.lanes[key] = l
	}
	h.post.unsent++
	wait := h.timing.Webhook
	if p.fate.late > 0 {
		wait = 0
	}
	p.due = h.clock.Now().Add(wait)
	if p.fate.swap && l.held == nil {
		l.held = p
		h.in(30*time.Second, func() { h.release(key, l) })
		return
	}
	l.waiting = append(l.waiting, p)
	if l.held != nil {
		l.held.due = p.due
		l.waiting = append(l.waiting, l.held)
		l.held = nil
	}
	h.in(wait, func() { h.move(key, l) })
}

// release lets a held parcel go when nothing came to overtake it.
func (h *Hub) release(key int64, l *lane) {
	if l.held == nil {
		return
	}
	l.waiting = append(l.waiting, l.held)
	l.held = nil
	h.move(key, l)
}

// next takes the lane's first parcel if it is due.
func (h *Hub) next(key int64, l *lane) *parcel {
	h.enter()
	defer h.leave()
	if h.closed || len(l.waiting) == 0 || l.waiting[0].due.After(h.clock.Now()) {
		l.moving = false
		if len(l.waiting) == 0 && l.held == nil {
			delete(h.post.lanes, key)
		}
		return nil
	}
	p := l.waiting[0]
	l.waiting = l.waiting[1:]
	return p
}

// move posts the lane's parcels one after another, in a timer's goroutine of its
// own: a receiver takes its time.
func (h *Hub) move(key int64, l *lane) {
	if l.moving {
		return
	}
	l.moving = true
	h.clock.AfterFunc(0, func() {
		for p := h.next(key, l); p != nil; p = h.next(key, l) {
			h.carry(p)
			if p.fate.double {
				h.carry(p)
			}
			h.enter()
			h.post.unsent--
			h.leave()
		}
	})
}

// carry makes one attempt and records it.
func (h *Hub) carry(p *parcel) {
	h.enter()
	w := h.webhook
	h.leave()
	began := h.clock.Now()
	d := &delivery{
		guid: p.guid, at: began, redelivery: p.redelivery, event: p.event, action: p.action,
		in: p.in, repo: p.repo, payload: p.body, request: h.deliveryHeaders(p, w.Secret), url: w.URL,
	}
	if p.fate.fail {
		d.status, d.code = "failed to connect to host", 502
	} else {
		d.attempt(w)
	}
	d.took = h.clock.Now().Sub(began)
	if p.secret != "" {
		return // a forgery is not GitHub's
	}
	h.enter()
	defer h.leave()
	h.record(d)
}

// deliveryHeaders are those GitHub sends.
func (h *Hub) deliveryHeaders(p *parcel, secret string) http.Header {
	if p.secret != "" {
		secret = p.secret
	}
	header := http.Header{}
	for k, v := range map[string]string{
		"Accept": "*/*", "Content-Type": "application/json", "User-Agent": "GitHub-Hookshot/3c5a7b1",
		"X-GitHub-Delivery": p.guid, "X-GitHub-Event": p.event, "X-GitHub-Hook-ID": strconv.Itoa(hookID),
		"X-GitHub-Hook-Installation-Target-ID":   strconv.FormatInt(h.appID, 10),
		"X-GitHub-Hook-Installation-Target-Type": "integration",
	} {
		header.Set(k, v)
	}
	if secret != "" {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(p.body)
		header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	return header
}

const hookID = 509_000_001

// attempt posts the delivery and notes what came back.
func (d *delivery) attempt(w Webhook) {
	ctx, cancel := context.WithTimeout(context.Background(), receiverTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(d.payload))
	if err != nil {
		d.status, d.code = "invalid URL", 0
		return
	}
	req.Header = d.request.Clone()
	resp, err := w.Transport.RoundTrip(req)
	if err != nil {
		d.status, d.code = "failed to connect to host", 502
		if ctx.Err() != nil {
			d.status, d.code = "timed out", 504
		}
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	d.code, d.response, d.reply = resp.StatusCode, resp.Header, body
	d.status = "OK"
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		d.status = "Invalid HTTP Response: " + strconv.Itoa(resp.StatusCode)
	}
}

// Unsent is how many webhooks are on their way or held back.
func (h *Hub) Unsent() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.post.unsent
}

// event assembles a body. What was rendered before is copied as it is, which
// is most of it; a part that is nil is left out, as GitHub does.
func event(parts map[string]any) []byte {
	b := []byte{'{'}
	for _, k := range slices.Sorted(maps.Keys(parts)) {
		raw, rendered := parts[k].(json.RawMessage)
		switch {
		case parts[k] == nil, rendered && raw == nil:
			continue
		case !rendered:
			raw = must(parts[k])
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(strconv.AppendQuote(b, k), ':')
		b = append(b, raw...)
	}
	return append(b, '}')
}

// sendJob sends a workflow_job event to the App, if it is installed there.
func (h *Hub) sendJob(j *job, action string) {
	if h.webhook.URL == "" {
		return
	}
	repo := j.run.repo
	in := h.installationOf(repo)
	if in == nil || !in.suspended.IsZero() || !in.permissions.allows("actions", "read") {
		return
	}
	body := event(map[string]any{
		"action": action, "workflow_job": j.json(), "repository": repo.whole,
		"organization": repo.owner.organization, "sender": repo.owner.json,
		"installation": map[string]any{"id": in.id, "node_id": nodeID("MDIzOkludGVncmF0aW9u", int64(in.id))},
	})
	h.send(int64(j.id), &parcel{event: "workflow_job", action: action, body: body, in: in.id, repo: repo.id})
}

// sendInstallation sends an installation event.
func (h *Hub) sendInstallation(in *installation, action string) {
	parts := map[string]any{
		"action": action, "installation": h.installationEvent(in), "sender": in.account.json,
	}
	if action == "created" || action == "deleted" || action == "new_permissions_accepted" {
		parts["repositories"] = h.repositoryStubs(in)
	}
	h.send(0, &parcel{event: "installation", action: action, body: event(parts), in: in.id})
}

// repositoryStubs is the short form of an installation's repositories.
func (h *Hub) repositoryStubs(in *installation) []map[string]any {
	list := []map[string]any{}
	for _, r := range h.repositories {
		if in.covers(r) {
			list = append(list, r.stub())
		}
	}
	return list
}

func (r *repository) stub() map[string]any {
	return map[string]any{
		"id": r.id, "node_id": nodeID("R", int64(r.id)), "name": r.name, "full_name": r.full, "private": r.private,
	}
}

// Ping sends a ping event, as GitHub does when a webhook is set up.
func (h *Hub) Ping() {
	h.enter()
	defer h.leave()
	url := fmt.Sprintf("%s/app/hook", apiURL)
	h.send(0, &parcel{event: "ping", body: event(map[string]any{
		"zen": "Keep it logically awesome.", "hook_id": hookID, "sender": appOwner().json,
		"hook": map[string]any{
			"type": "App", "id": hookID, "name": "web", "active": true, "events": []string{"workflow_job"},
			"config":     map[string]any{"content_type": "json", "insecure_ssl": "0", "secret": "********", "url": h.webhook.URL},
			"updated_at": stamp(h.clock.Now()), "created_at": stamp(h.clock.Now()), "app_id": h.appID,
			"deliveries_url": url + "/deliveries",
		},
	})})
}

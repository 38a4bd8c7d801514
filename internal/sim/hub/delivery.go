package hub

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// deliveriesKept is how long GitHub remembers deliveries (docs: 3 days).
const deliveriesKept = 3 * 24 * time.Hour

// delivery is one attempt to deliver a webhook; redeliveries share its GUID.
type delivery struct {
	id            int64
	guid          string
	at            time.Time
	took          time.Duration
	redelivery    bool
	status        string
	code          int
	event, action string
	in            InstallationID
	repo          RepositoryID
	url           string
	request       http.Header
	payload       []byte
	response      http.Header
	reply         []byte
}

// record remembers the attempt and forgets those that are too old.
func (h *Hub) record(d *delivery) {
	d.id = 12_000_000_000 + h.number()
	old := h.clock.Now().Add(-deliveriesKept)
	h.post.deliveries = slices.DeleteFunc(h.post.deliveries, func(d *delivery) bool { return d.at.Before(old) })
	h.post.deliveries = append(h.post.deliveries, d)
}

func (d *delivery) good() bool { return d.code >= 200 && d.code < 400 }

func (d *delivery) json() map[string]any {
	m := map[string]any{
		"id": d.id, "guid": d.guid, "delivered_at": stamp(d.at), "redelivery": d.redelivery,
		"duration": d.took.Seconds(), "status": d.status, "status_code": d.code, "event": d.event,
		"action": nil, "installation_id": nil, "repository_id": nil, "throttled_at": nil,
	}
	if d.action != "" {
		m["action"] = d.action
	}
	if d.in != 0 {
		m["installation_id"] = d.in
	}
	if d.repo != 0 {
		m["repository_id"] = d.repo
	}
	return m
}

// listDeliveries is GET /app/hook/deliveries: the newest first, by cursor.
func (h *Hub) listDeliveries(c *call) answer {
	q := c.r.URL.Query()
	below := int64(1<<63 - 1)
	if cursor := q.Get("cursor"); cursor != "" {
		n, err := strconv.ParseInt(strings.TrimPrefix(cursor, "v1_"), 10, 64)
		if err != nil {
			return fail(http.StatusBadRequest, "Invalid cursor: %s", cursor)
		}
		below = n
	}
	size := min(max(atoiOr(q.Get("per_page"), 30), 1), 100)
	list := []map[string]any{}
	next := ""
	for _, d := range slices.Backward(h.post.deliveries) {
		want := q.Get("status")
		if d.id > below || h.clock.Now().Sub(d.at) > deliveriesKept ||
			want == "success" && !d.good() || want == "failure" && d.good() {
			continue
		}
		if len(list) == size {
			next = fmt.Sprintf("v1_%d", d.id)
			break
		}
		list = append(list, d.json())
	}
	a := ok(list)
	if next == "" {
		return a
	}
	u := *c.r.URL
	u.Scheme, u.Host = "http", c.r.Host
	q.Set("cursor", next)
	u.RawQuery = q.Encode()
	return a.with("Link", fmt.Sprintf(`<%s>; rel="next"`, u.String()))
}

func (h *Hub) deliveryOf(c *call) *delivery {
	id := pathID(c.r, "delivery_id")
	for _, d := range h.post.deliveries {
		if d.id == id {
			return d
		}
	}
	return nil
}

// showDelivery is GET /app/hook/deliveries/{delivery_id}, with the payload.
func (h *Hub) showDelivery(c *call) answer {
	d := h.deliveryOf(c)
	if d == nil {
		return notFound()
	}
	m := d.json()
	m["url"] = d.url
	m["request"] = map[string]any{"headers": flat(d.request), "payload": json.RawMessage(d.payload)}
	m["response"] = map[string]any{"headers": flat(d.response), "payload": string(d.reply)}
	return ok(m)
}

func flat(h http.Header) map[string]string {
	m := map[string]string{}
	for k := range h {
		m[k] = h.Get(k)
	}
	return m
}

// redeliver is POST …/attempts: 202, and the same GUID comes again. GitHub
// signs it anew and sends the old payload.
func (h *Hub) redeliver(c *call) answer {
	d := h.deliveryOf(c)
	if d == nil {
		return notFound()
	}
	p := &parcel{
		event: d.event, action: d.action, guid: d.guid, body: d.payload, in: d.in, repo: d.repo, redelivery: true,
	}
	h.put(-d.id, p)
	return answer{code: http.StatusAccepted, body: map[string]any{}}
}

// Delivery is what a test may know of a delivery.
type Delivery struct {
	GUID          string
	Event, Action string
	Code          int
	Redelivery    bool
	At            time.Time
}

// Deliveries is every attempt GitHub remembers, the oldest first.
func (h *Hub) Deliveries() []Delivery {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []Delivery{}
	for _, d := range h.post.deliveries {
		list = append(list, Delivery{d.guid, d.event, d.action, d.code, d.redelivery, d.at})
	}
	return list
}

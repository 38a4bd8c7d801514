package github

import (
	"container/list"
	"net/http"
	"strconv"
	"sync"
)

// maxCached bounds the answers kept for GETs that GitHub says are unchanged.
const maxCached = 16 << 20

// cache keeps the last answer of each GET with its entity tag: GitHub counts
// an unchanged one (304) against no limit, and go-github sends none. The least
// recently used answers go first.
type cache struct {
	mu      sync.Mutex
	entries map[string]*list.Element // of *entry
	order   *list.List               // newest first
	size    int
}

type entry struct {
	key    string
	tag    string
	header http.Header
	body   []byte
}

func newCache() *cache {
	return &cache{entries: map[string]*list.Element{}, order: list.New()}
}

// prepare makes a GET conditional where its last answer is known. Answers are
// never shared between installations.
func (c *cache) prepare(req *http.Request, account int64) (key string, have *entry) {
	if req.Method != http.MethodGet || account == 0 {
		return "", nil
	}
	key = strconv.FormatInt(account, 10) + " " + req.URL.String()
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.entries[key]
	if el == nil {
		return key, nil
	}
	c.order.MoveToFront(el)
	have = el.Value.(*entry)
	req.Header.Set("If-None-Match", have.tag)
	return key, have
}

// store keeps an answer that has a tag; an empty key is one not to keep.
func (c *cache) store(key string, h http.Header, body []byte) {
	if key == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.entries[key]; el != nil {
		c.remove(el)
	}
	tag := h.Get("Etag")
	if tag == "" || len(body) > maxCached/4 {
		return
	}
	c.entries[key] = c.order.PushFront(&entry{key: key, tag: tag, header: h, body: body})
	for c.size += len(body); c.size > maxCached; {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(el *list.Element) {
	e := el.Value.(*entry)
	c.order.Remove(el)
	delete(c.entries, e.key)
	c.size -= len(e.body)
}

func (e *entry) response(req *http.Request) *http.Response {
	return answer(req, http.StatusOK, e.header, e.body)
}

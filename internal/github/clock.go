package github

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// clock is our time and how far GitHub's is from it.
type clock struct {
	now func() time.Time

	mu   sync.Mutex
	skew time.Duration
	seen bool
}

// observe learns from the Date header of an answer. Its resolution is a
// second, so a smaller difference is none; a slow exchange says too little.
func (k *clock) observe(h http.Header, sent, got time.Time) {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || got.Sub(sent) > 20*time.Second {
		return
	}
	middle := sent.Add(got.Sub(sent) / 2)
	skew := date.Add(500 * time.Millisecond).Sub(middle)
	if skew.Abs() <= time.Second+got.Sub(sent)/2 {
		skew = 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.skew, k.seen = skew, true
}

func (k *clock) offset() (time.Duration, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.skew, k.seen
}

// github is the time at GitHub, by which it judges JWTs and tokens.
func (k *clock) github() time.Time {
	skew, _ := k.offset()
	return k.now().Add(skew)
}

// local turns a time that GitHub named into ours.
func (k *clock) local(t time.Time) time.Time {
	skew, _ := k.offset()
	return t.Add(-skew)
}

// Clock is how far GitHub's clock is ahead of ours, from the last answer's
// Date header; before the first answer it asks for one. Zero is as good as
// the header can tell, or nothing heard.
func (c *Client) Clock(ctx context.Context) time.Duration {
	if _, seen := c.clock.offset(); !seen {
		_ = c.asApp(ctx, admin, func(ctx context.Context) error {
			_, _, err := c.gh.Apps.Get(ctx, "")
			return err
		})
	}
	skew, _ := c.clock.offset()
	return skew
}

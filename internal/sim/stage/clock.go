// Package stage is what every simulated server stands on: a clock of its own,
// the HTTP wire in two forms (sockets and in-process), and faults on it.
//
// It keeps no goroutine of its own, so that it can be used inside a
// testing/synctest bubble, where the time package is virtual.
package stage

import (
	"context"
	"sync"
	"time"
)

// Clock is the world's own time. The zero value shows the time package's time;
// Skew puts it ahead of (or behind) the clock of the program under test.
type Clock struct {
	mu   sync.Mutex
	skew time.Duration
}

// Now is the world's time, in UTC.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.skew).UTC()
}

// Skew sets how far the world's clock is ahead of the program's.
func (c *Clock) Skew(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew = d
}

// AfterFunc runs f once d has passed, in a goroutine of its own.
func (c *Clock) AfterFunc(d time.Duration, f func()) *time.Timer { return time.AfterFunc(d, f) }

// Sleep waits for d or for ctx, whichever ends first, and returns ctx's error.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

package proxmox

import (
	"context"
	"errors"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Looking for an effect whose answer was lost takes at most about 15 s; then
// the caller's own listing goes on looking.
const (
	firstLook = 50 * time.Millisecond
	lastLook  = 2 * time.Second
	allLooks  = 15 * time.Second

	// enoughLooks without a trace mean that the request had no effect, or has
	// it so late that waiting here does not help.
	enoughLooks = 3
)

// looks spaces the looks: the first at once, the others further and further
// apart.
type looks struct {
	nap time.Duration
	end time.Time
}

func newLooks() *looks { return &looks{end: time.Now().Add(allLooks)} }

// next waits for the next look; false means that it is time to give up.
func (l *looks) next(ctx context.Context) bool {
	if l.nap == 0 {
		l.nap = firstLook
		return ctx.Err() == nil
	}
	if time.Now().Add(l.nap).After(l.end) || sleep(ctx, l.nap) != nil {
		return false
	}
	l.nap = min(l.nap*2, lastLook)
	return true
}

// nothingSeen is what a lost answer means when no trace of an effect is found.
// 595 is pveproxy's failure to connect to the daemon or node: the request went
// nowhere. After anything else the effect may still come.
func nothingSeen(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Status != 595 {
		return err
	}
	none := *e
	none.Kind = fleet.ErrUnavailable
	return &none
}

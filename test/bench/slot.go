package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// slot measures a full pool with jobs waiting, in a world that answers at
// once: from a container's being gone to the request to start the next one,
// which has to be cloned first.
func (b *bench) slot(ctx context.Context) (results, error) {
	const room = 2
	h, err := byHand(ctx, setting{})
	if err != nil {
		return nil, err
	}
	defer h.close()
	w, err := newWorld(setting{})
	if err != nil {
		return nil, err
	}
	defer w.close()
	d, err := b.daemon(ctx, w, onePool(room, 0))
	if err != nil {
		return nil, err
	}
	defer d.stop()
	ctx = d.alive(ctx)

	// Few places and jobs of all lengths, so that two seldom end at once:
	// clones of one template wait for each other.
	rng := w.Rand("slot")
	for range b.size.slotJobs {
		d := 200*time.Millisecond + time.Duration(rng.Int64N(int64(400*time.Millisecond)))
		w.GitHub.QueueJob(hub.NewJob{Repo: repository, Labels: labels, Duration: d})
	}
	err = wait(ctx, "every job has ended", func() bool { return w.GitHub.Pending() == 0 && w.Left().Empty() })
	if err != nil {
		return nil, d.lastWords(err)
	}
	var reuse, hand sample
	gone, begun := w.events("destroy"), w.meter.all(started, 0)
	for i := room; i < len(begun); i++ {
		reuse = append(reuse, begun[i].at.Sub(gone[i-room].At))
	}
	for range b.size.slotJobs / 2 {
		took, err := slotByHand(ctx, h)
		if err != nil {
			return nil, err
		}
		hand = append(hand, took)
	}
	return results{"slot_reuse_ms": {reuse.median(), hand.median(),
		fmt.Sprintf("by hand: clone, JIT, env, start; p99 %.3g ms", reuse.at(0.99))}}, nil
}

func slotByHand(ctx context.Context, h *hand) (time.Duration, error) {
	from, began := h.w.meter.now(), time.Now()
	vmid, err := h.clone(ctx)
	if err != nil {
		return 0, err
	}
	if err := h.launch(ctx, vmid); err != nil {
		return 0, err
	}
	begun, err := h.w.meter.await(ctx, from, started, on(vmid))
	if err != nil {
		return 0, err
	}
	return begun.at.Sub(began), h.clear(ctx, vmid)
}

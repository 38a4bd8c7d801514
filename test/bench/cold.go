package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// cold measures single jobs for which there is no spare, in a world where
// clones and starts take time: from the accepted webhook until the container's
// init runs, against a client that clones, mints, delivers and starts by hand.
func (b *bench) cold(ctx context.Context) (results, error) {
	h, err := byHand(ctx, setting{timing: fast})
	if err != nil {
		return nil, err
	}
	defer h.close()
	w, err := newWorld(setting{timing: fast})
	if err != nil {
		return nil, err
	}
	defer w.close()
	d, err := b.daemon(ctx, w, onePool(4, 0))
	if err != nil {
		return nil, err
	}
	defer d.stop()
	ctx = d.alive(ctx)

	var ours, hand sample
	// The first job of both is left out: connections and tokens are made, and
	// the daemon learns how long a clone takes.
	began := time.Now()
	for i := 0; i < 2 || again(i, b.size.coldJobs+1, began); i++ {
		took, err := coldJob(ctx, w)
		if err != nil {
			return nil, d.lastWords(err)
		}
		byHand, err := coldByHand(ctx, h)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			ours, hand = append(ours, took), append(hand, byHand)
		}
	}
	return results{"cold_over_bare": {ours.median() / hand.median(), 1,
		fmt.Sprintf("%.0f ms; by hand %.0f ms; %d jobs", ours.median(), hand.median(), len(ours))}}, nil
}

func coldJob(ctx context.Context, w *world) (time.Duration, error) {
	from := w.meter.now()
	job := w.queue(jobTime)
	queued, err := w.meter.await(ctx, from, accepted, of(job))
	if err != nil {
		return 0, err
	}
	begun, err := w.meter.await(ctx, from, started, anyMark)
	if err != nil {
		return 0, err
	}
	err = wait(ctx, "the job's container is gone", func() bool {
		return w.Left().Empty() && w.meter.quiet() > calm
	})
	return w.booted(begun.vmid).Sub(queued.at), err
}

func coldByHand(ctx context.Context, h *hand) (time.Duration, error) {
	began := time.Now()
	vmid, err := h.clone(ctx)
	if err != nil {
		return 0, err
	}
	if err := h.launch(ctx, vmid); err != nil {
		return 0, err
	}
	took := h.w.booted(vmid).Sub(began)
	return took, h.clear(ctx, vmid)
}

// booted is when a container's init first ran.
func (w *world) booted(vmid int) time.Time {
	for _, e := range w.events("start") {
		if e.VMID == vmid {
			return e.At
		}
	}
	return time.Time{}
}

// last is the time of the last of some events.
func last(events []pve.Event) time.Time { return events[len(events)-1].At }

package main

import (
	"context"
	"fmt"
	"time"
)

const (
	spares    = 2
	calm      = 60 * time.Millisecond // without a change: nothing is under way
	jobTime   = 30 * time.Millisecond
	spareRoom = 8
)

// spare measures single jobs that find a spare, in a world that answers at
// once: from the accepted webhook to the request to start the container, and
// from the accepted "completed" to the request to destroy it. By hand it is
// the same requests one after the other. Rounds of both alternate, so that
// both see the same machine.
func (b *bench) spare(ctx context.Context) (results, error) {
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
	d, err := b.daemon(ctx, w, onePool(spareRoom, spares))
	if err != nil {
		return nil, err
	}
	defer d.stop()
	ctx = d.alive(ctx)

	var start, end, handStart, handEnd sample
	var p50, handP50 []float64
	for i, began := 0, time.Now(); again(i, b.size.rounds, began); i++ {
		var round, handRound sample
		for range b.size.spareJobs {
			s, e, err := spareJob(ctx, w)
			if err != nil {
				return nil, d.lastWords(err)
			}
			round, end = append(round, s), append(end, e)
			if s, e, err = handJob(ctx, h); err != nil {
				return nil, err
			}
			handRound, handEnd = append(handRound, s), append(handEnd, e)
		}
		start, p50 = append(start, round...), append(p50, round.median())
		handStart, handP50 = append(handStart, handRound...), append(handP50, handRound.median())
	}
	return results{
		"webhook_to_start_p50_ms": {median(p50), median(handP50), fmt.Sprintf("by hand: JIT, env, start; %d jobs", len(start))},
		"webhook_to_start_p99_ms": {start.at(0.99), handStart.at(0.99), "the same"},
		"completed_to_destroy_ms": {end.median(), handEnd.median(), fmt.Sprintf("by hand: list, destroy; p99 %.3g ms", end.at(0.99))},
	}, nil
}

// spareJob is one job: how long until its start, and from its end until the
// container is destroyed.
func spareJob(ctx context.Context, w *world) (start, end time.Duration, err error) {
	err = wait(ctx, "the spares are there", func() bool {
		stopped, running := w.containers()
		return stopped == spares && running == 0 && w.meter.quiet() > calm
	})
	if err != nil {
		return 0, 0, err
	}
	from := w.meter.now()
	job := w.queue(jobTime)
	queued, err := w.meter.await(ctx, from, accepted, of(job))
	if err != nil {
		return 0, 0, err
	}
	begun, err := w.meter.await(ctx, from, started, anyMark)
	if err != nil {
		return 0, 0, err
	}
	over, err := w.meter.await(ctx, from, completed, of(job))
	if err != nil {
		return 0, 0, err
	}
	gone, err := w.meter.await(ctx, from, destroyed, on(begun.vmid))
	// A container that is found stopped may be destroyed before its webhook
	// is through.
	return begun.at.Sub(queued.at), max(gone.at.Sub(over.at), 0), err
}

func handJob(ctx context.Context, h *hand) (start, end time.Duration, err error) {
	vmid, err := h.clone(ctx)
	if err != nil {
		return 0, 0, err
	}
	from, began := h.w.meter.now(), time.Now()
	if err := h.launch(ctx, vmid); err != nil {
		return 0, 0, err
	}
	begun, err := h.w.meter.await(ctx, from, started, on(vmid))
	if err != nil {
		return 0, 0, err
	}
	from, over := h.w.meter.now(), time.Now()
	if err := h.clear(ctx, vmid); err != nil {
		return 0, 0, err
	}
	gone, err := h.w.meter.await(ctx, from, destroyed, on(vmid))
	return begun.at.Sub(began), gone.at.Sub(over), err
}

package main

import (
	"context"
	"fmt"
	"time"
)

// burst measures many jobs at once, from the first accepted webhook until the
// last container's init runs. Proxmox locks a template while it is cloned, so
// that with one template no program can be faster than clone after clone and
// one start. A Terraform-style apply makes one container after the other,
// which is measured by hand with a few and multiplied.
func (b *bench) burst(ctx context.Context) (results, error) {
	n := b.size.burstJobs
	var rounds []float64
	for i, began := 0, time.Now(); again(i, b.size.burstRounds, began); i++ {
		took, err := b.burstRound(ctx, n)
		if err != nil {
			return nil, err
		}
		rounds = append(rounds, took.Seconds())
	}
	each, err := serialByHand(ctx, b.size.coldJobs)
	if err != nil {
		return nil, err
	}
	took, serial := median(rounds), each.Seconds()*float64(n)
	bound := (time.Duration(n)*fast.Clone + fast.Start).Seconds()
	return results{
		"burst_over_bound":  {took / bound, 1, fmt.Sprintf("%.1f s; bound %.1f s; %d times %d jobs", took, bound, len(rounds), n)},
		"serial_over_burst": {serial / took, 1, fmt.Sprintf("one after the other %.1f s", serial)},
	}, nil
}

func (b *bench) burstRound(ctx context.Context, n int) (time.Duration, error) {
	w, err := newWorld(setting{timing: fast})
	if err != nil {
		return 0, err
	}
	defer w.close()
	d, err := b.daemon(ctx, w, onePool(n, 0))
	if err != nil {
		return 0, err
	}
	defer d.stop()
	ctx = d.alive(ctx)
	for range n {
		w.queue(time.Hour) // none ends before the last one starts
	}
	first, err := w.meter.await(ctx, 0, accepted, anyMark)
	if err != nil {
		return 0, d.lastWords(err)
	}
	err = wait(ctx, "every job has a container", func() bool { return len(w.meter.all(started, 0)) >= n })
	if err == nil {
		err = wait(ctx, "every container runs", func() bool { return len(w.events("start")) >= n })
	}
	if err != nil {
		return 0, d.lastWords(err)
	}
	return last(w.events("start")).Sub(first.at), nil
}

// serialByHand is how long one container takes when they are made one after
// the other.
func serialByHand(ctx context.Context, n int) (time.Duration, error) {
	h, err := byHand(ctx, setting{timing: fast})
	if err != nil {
		return 0, err
	}
	defer h.close()
	began := time.Now()
	for range n {
		vmid, err := h.clone(ctx)
		if err != nil {
			return 0, err
		}
		if err := h.launch(ctx, vmid); err != nil {
			return 0, err
		}
	}
	return time.Since(began) / time.Duration(n), nil
}

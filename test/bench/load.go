package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// busy is a world in which a job's tasks and its runner take time.
var busy = setting{
	nodes:  4, // with a template each, so that clones do not set the pace
	timing: pve.Timing{Clone: 40 * time.Millisecond, Start: 40 * time.Millisecond, Destroy: 40 * time.Millisecond},
	guest: sim.GuestTiming{
		Boot: 50 * time.Millisecond, Connect: 100 * time.Millisecond, Pickup: 20 * time.Millisecond, Exit: 20 * time.Millisecond,
	},
}

// load measures many jobs through one daemon: a handful every half second.
func (b *bench) load(ctx context.Context) (results, error) {
	n := b.size.loadJobs
	w, err := newWorld(busy)
	if err != nil {
		return nil, err
	}
	defer w.close()
	d, err := b.daemon(ctx, w, onePool(60, 4))
	if err != nil {
		return nil, err
	}
	defer d.stop()
	ctx = d.alive(ctx)
	before, err := d.cpu()
	if err != nil {
		return nil, err
	}
	asked := w.meter.count()
	if err := arrivals(ctx, w, n); err != nil {
		return nil, err
	}
	err = wait(ctx, "every job has ended", func() bool {
		if w.GitHub.Pending() > 0 {
			return false
		}
		_, running := w.containers()
		return running == 0 && len(w.GitHub.Runners("")) == 0
	})
	if err != nil {
		return nil, d.lastWords(err)
	}
	after, err := d.cpu()
	if err != nil {
		return nil, err
	}
	peak, err := d.memory("VmHWM")
	if err != nil {
		return nil, err
	}
	return b.loadResults(ctx, w, n, w.meter.count()-asked, after-before, peak)
}

func (b *bench) loadResults(ctx context.Context, w *world, n, asked int, used time.Duration, peak float64) (results, error) {
	if v := w.Violations(); len(v) > 0 {
		return nil, fmt.Errorf("run %d jobs: broken promise: %s", n, v[0])
	}
	each := float64(asked) / float64(n)
	floor, err := b.requestCost(ctx)
	if err != nil {
		return nil, err
	}
	server, err := b.bare(ctx)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	bare, err := server.memory("VmHWM")
	if err != nil {
		return nil, err
	}
	return results{
		"cpu_ms_per_job":  {milliseconds(used) / float64(n), each * floor, fmt.Sprintf("its %.1f requests with net/http alone", each)},
		"peak_rss_mb":     {peak, bare, "a Go program that only serves HTTP"},
		"surplus_runners": {float64(w.GitHub.JITMinted() - n), float64(n), "jobs"},
	}, nil
}

// arrivals queues n jobs of half a second to two seconds.
func arrivals(ctx context.Context, w *world, n int) error {
	rng := w.Rand("arrivals")
	beat := time.NewTicker(500 * time.Millisecond)
	defer beat.Stop()
	for left := n; left > 0; {
		for range min(1+rng.IntN(19), left) { // ten on average
			d := 500*time.Millisecond + time.Duration(rng.Int64N(int64(1500*time.Millisecond)))
			w.GitHub.QueueJob(hub.NewJob{Repo: repository, Labels: labels, Duration: d})
			left--
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-beat.C:
		}
	}
	return nil
}

// requestCost is the processor time, in milliseconds, that one request on the
// loopback costs a program that does nothing else.
func (b *bench) requestCost(ctx context.Context) (float64, error) {
	server, err := b.bare(ctx)
	if err != nil {
		return 0, err
	}
	defer server.stop()
	const requests = 5000
	cmd := exec.CommandContext(ctx, b.bareProgram, server.url, strconv.Itoa(requests))
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("ask %s: %w: %s", server.url, err, out)
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return milliseconds(used) / requests, nil
}

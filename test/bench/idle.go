package main

import (
	"context"
	"fmt"
	"time"
)

// idle is a daemon with four pools and nothing to do, beside a program that
// only serves HTTP. It is started first and looked at last, so that it idles
// while the rest is measured.
type idle struct {
	w            *world
	daemon, bare *child
	since        time.Time
	used, floor  time.Duration // before since
}

// settle is how long a daemon works after its start: it looks at everything
// once.
const settle = 3 * time.Second

func (b *bench) startIdle(ctx context.Context) (i *idle, err error) {
	i = &idle{}
	defer func() {
		if err != nil {
			i.close()
		}
	}()
	if i.w, err = newWorld(setting{}); err != nil {
		return i, err
	}
	text := poolFrame
	for n := range 4 {
		text += fmt.Sprintf(poolText, fmt.Sprintf("linux-%d", n+1), fmt.Sprintf("%q", fmt.Sprintf("size-%d", n+1)), 4, 1)
	}
	if i.daemon, err = b.daemon(ctx, i.w, text); err != nil {
		return i, err
	}
	if i.bare, err = b.bare(ctx); err != nil {
		return i, err
	}
	err = wait(i.daemon.alive(ctx), "the spares are there", func() bool {
		stopped, _ := i.w.containers()
		return stopped == 4 && i.w.meter.quiet() > settle
	})
	if err != nil {
		return i, i.daemon.lastWords(err)
	}
	i.since = time.Now()
	if i.used, err = i.daemon.cpu(); err != nil {
		return i, err
	}
	i.floor, err = i.bare.cpu()
	return i, err
}

// measure looks at the daemon once it has idled for long enough.
func (i *idle) measure(ctx context.Context, least time.Duration) (results, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Until(i.since.Add(least))):
	}
	span := time.Since(i.since)
	used, err := i.daemon.cpu()
	if err != nil {
		return nil, i.daemon.lastWords(err)
	}
	floor, err := i.bare.cpu()
	if err != nil {
		return nil, err
	}
	rss, err := i.daemon.memory("VmRSS")
	if err != nil {
		return nil, err
	}
	bare, err := i.bare.memory("VmRSS")
	if err != nil {
		return nil, err
	}
	percent := func(d time.Duration) float64 { return 100 * d.Seconds() / span.Seconds() }
	what := "a Go program that only serves HTTP"
	return results{
		"idle_rss_mb":      {rss, bare, what},
		"idle_cpu_percent": {percent(used - i.used), percent(floor - i.floor), fmt.Sprintf("the same; over %.0f s", span.Seconds())},
	}, nil
}

func (i *idle) close() {
	for _, c := range []*child{i.daemon, i.bare} {
		if c != nil {
			c.stop()
		}
	}
	if i.w != nil {
		i.w.close()
	}
}

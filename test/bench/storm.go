package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/test/lxc/node"
)

// stormShare bounds how long storms are begun, as share does elsewhere.
const stormShare = 75 * time.Second

// storm measures the whole life of many containers at once: jobs come for which
// there is no spare, and the last of their containers is gone. Beside it as many
// prepared containers are started by lxc-start at once, run the same jobs and
// power themselves off: neither clones, nor configs, nor their removal count
// there. Both take turns, and each storm is held against the one before it.
func (b *bench) storm(ctx context.Context, s *site, o order) (results, error) {
	var ours, bare sample
	for i, began := 0, time.Now(); i < o.Storms && (i == 0 || time.Since(began) < stormShare); i++ {
		if _, err := s.ready(ctx); err != nil { // nobody clones meanwhile
			return nil, err
		}
		one, err := s.bareStorm(ctx, o.Storm)
		if err != nil {
			return nil, err
		}
		other, err := s.servedStorm(ctx, o.Storm)
		if err != nil {
			return nil, err
		}
		bare, ours = append(bare, one), append(ours, other)
		fmt.Fprintf(b.progress, "  %d at once: lxc-start alone %.1f s, dayfly %.1f s\n", o.Storm, one.Seconds(), other.Seconds())
	}
	return results{stormName: {median(paired(ours, bare)), 1,
		fmt.Sprintf("%.1f s; lxc-start alone %.1f s; %d containers, %d times", ours.median()/1000, bare.median()/1000, o.Storm, len(ours))}}, nil
}

func (s *site) bareStorm(ctx context.Context, n int) (time.Duration, error) {
	var guests []*node.Guest
	var bares []*lab.Bare
	for range n {
		g, b, err := s.bare()
		if err != nil {
			return 0, err
		}
		guests, bares = append(guests, g), append(bares, b)
		s.job("bare")
	}
	began := time.Now()
	for _, b := range bares {
		if err := b.Start(); err != nil {
			return 0, err
		}
	}
	var err error
	for _, b := range bares {
		err = errors.Join(err, b.Wait())
	}
	took := time.Since(began)
	for _, g := range guests {
		err = errors.Join(err, g.Destroy())
	}
	if err == nil && s.GitHub.Pending() > 0 {
		err = fmt.Errorf("%d jobs were not run", s.GitHub.Pending())
	}
	return took, errors.Join(err, ctx.Err())
}

func (s *site) servedStorm(ctx context.Context, n int) (time.Duration, error) {
	if _, err := s.ready(ctx); err != nil {
		return 0, err
	}
	from, began := s.meter.now(), time.Now()
	var jobs []hub.JobID
	for range n {
		jobs = append(jobs, s.job("storm"))
	}
	for _, id := range jobs {
		if err := s.over(ctx, id); err != nil {
			return 0, err
		}
	}
	err := wait(ctx, "the last container is gone", func() bool {
		return len(s.meter.all(destroyed, from)) >= n && s.stopped() == 1
	})
	gone := s.events("destroy")
	return last(gone).Sub(began), err
}

// stopped counts containers that do not run.
func (s *site) stopped() int {
	stopped, _ := s.containers()
	return stopped
}

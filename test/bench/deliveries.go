package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	senders  = 32                 // connections that deliver at once
	perBlock = 300                // jobs that are open at once
	pace     = time.Second / 1000 // between deliveries at 1,000 a second
)

// deliveries measures how fast the daemon accepts deliveries, each of which is
// on disk before it is answered, and how long they take at 1,000 a second.
// They tell of jobs of a repository that a pool covers and that no pool runs,
// as most of an organisation's do.
func (b *bench) deliveries(ctx context.Context) (results, error) {
	mold, err := newMold(ctx)
	if err != nil {
		return nil, err
	}
	w, err := newWorld(setting{})
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
	server, err := b.bare(ctx)
	if err != nil {
		return nil, err
	}
	defer server.stop()

	var rate, bareRate, p99, diskRate, diskP99 []float64
	for i, began := 0, time.Now(); again(i, b.size.rounds, began); i++ {
		for _, to := range []struct {
			c    *child
			rate *[]float64
		}{{server, &bareRate}, {d, &rate}} {
			took, _, err := send(ctx, to.c, mold.cast(b.size.deliveries), 0)
			if err != nil {
				return nil, to.c.lastWords(err)
			}
			*to.rate = append(*to.rate, float64(b.size.deliveries)/took.Seconds())
		}
		_, times, err := send(ctx, d, mold.cast(b.size.paced), pace)
		if err != nil {
			return nil, d.lastWords(err)
		}
		p99 = append(p99, times.at(0.99))
		disk, err := syncs(b.dir, b.size.syncs)
		if err != nil {
			return nil, err
		}
		diskRate, diskP99 = append(diskRate, 1000/disk.median()), append(diskP99, disk.at(0.99))
	}
	return results{
		"deliveries_per_second": {median(rate), median(bareRate),
			fmt.Sprintf("an unsigned handler that does nothing; bare fsync %.0f/s", median(diskRate))},
		"delivery_p99_ms": {median(p99), median(diskP99), "a bare write and fsync, p99"},
	}, nil
}

// send posts requests over several connections and times their answers. With
// a pace each has a time when it is due, and lateness counts.
func send(ctx context.Context, c *child, requests [][]byte, pace time.Duration) (took time.Duration, times sample, err error) {
	type posted struct {
		request []byte
		due     time.Time
		took    *time.Duration
	}
	work := make(chan posted)
	times = make(sample, len(requests))
	errs := make(chan error, senders)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	for range senders {
		group.Go(func() {
			conn, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
			if err != nil {
				cancel()
				errs <- err
				return
			}
			defer conn.Close()
			answers := bufio.NewReader(conn)
			for p := range work {
				if err := post(conn, answers, p.request); err != nil {
					cancel()
					errs <- err
					return
				}
				*p.took = time.Since(p.due)
			}
		})
	}
	began := time.Now()
	for i, r := range requests {
		due := time.Now()
		if pace > 0 {
			due = began.Add(time.Duration(i) * pace)
			time.Sleep(time.Until(due))
		}
		select {
		case work <- posted{r, due, &times[i]}:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(work)
	group.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return time.Since(began), times, errors.Join(err, ctx.Err())
}

func post(conn net.Conn, answers *bufio.Reader, request []byte) error {
	if _, err := conn.Write(request); err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("deliver: %s: %s", resp.Status, text)
	}
	return nil
}

// syncs appends to a file and waits each time until it is on disk.
func syncs(dir string, n int) (sample, error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return nil, fmt.Errorf("sync: %w", err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	var took sample
	for range n {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return nil, fmt.Errorf("sync: %w", err)
		}
		if err := f.Sync(); err != nil {
			return nil, fmt.Errorf("sync: %w", err)
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

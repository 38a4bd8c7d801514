package journal_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
)

// delivery is the i-th of a stream in which every job is queued, runs and
// completes.
func delivery(i int) journal.Delivery {
	job := queued(fleet.JobID(i/3 + 1))
	job.Status = fleet.Queued + fleet.Status(i%3)
	if job.Status > fleet.Queued {
		job.Runner, job.Started = fmt.Sprintf("dayfly-linux-%016x", i/3), noon
	}
	if job.Status == fleet.Completed {
		job.Conclusion, job.Ended = "success", noon
	}
	return journal.Delivery{GUID: fmt.Sprintf("%08x-0000-11ef-8000-%012x", uint32(i)*2654435761, i), Event: "workflow_job",
		Action: job.Status.String(), Source: "webhook", Received: time.Now(), Job: job}
}

// BenchmarkAccept is deliveries accepted durably, as fast as callers send
// them: goal 3,000 a second.
func BenchmarkAccept(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			j := open(b, filepath.Join(b.TempDir(), "journal"), journal.Options{})
			var took sync.Mutex
			var all []time.Duration
			var group sync.WaitGroup
			b.ResetTimer()
			for c := range callers {
				group.Go(func() {
					var mine []time.Duration
					for i := c; i < b.N; i += callers {
						began := time.Now()
						if _, err := j.Accept(context.Background(), delivery(i)); err != nil {
							b.Error(err)
							return
						}
						mine = append(mine, time.Since(began))
					}
					took.Lock()
					defer took.Unlock()
					all = append(all, mine...)
				})
			}
			group.Wait()
			report(b, all)
		})
	}
}

// BenchmarkAcceptPaced is the latency of deliveries that come at 1,000 a
// second: goal p99 10 ms. Lateness of the sender itself is counted.
func BenchmarkAcceptPaced(b *testing.B) {
	const pace = time.Millisecond
	j := open(b, filepath.Join(b.TempDir(), "journal"), journal.Options{})
	all := make([]time.Duration, b.N)
	var group sync.WaitGroup
	began := time.Now()
	for i := range b.N {
		due := began.Add(time.Duration(i) * pace)
		time.Sleep(time.Until(due))
		group.Go(func() {
			if _, err := j.Accept(context.Background(), delivery(i)); err != nil {
				b.Error(err)
			}
			all[i] = time.Since(due)
		})
	}
	group.Wait()
	report(b, all)
}

func report(b *testing.B, all []time.Duration) {
	slices.Sort(all)
	if len(all) == 0 {
		return
	}
	b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkOpen is opening and closing a journal: one that is new, and one
// with history.
func BenchmarkOpen(b *testing.B) {
	ctx := context.Background()
	b.Run("new", func(b *testing.B) {
		dir := b.TempDir()
		for i := range b.N {
			j, err := journal.Open(ctx, filepath.Join(dir, fmt.Sprint(i)), journal.Options{})
			if err != nil {
				b.Fatal(err)
			}
			j.Close()
		}
	})
	b.Run("memory", func(b *testing.B) {
		for range b.N {
			j, err := journal.Open(ctx, ":memory:", journal.Options{})
			if err != nil {
				b.Fatal(err)
			}
			j.Close()
		}
	})
	for _, jobs := range []int{100, 20000} {
		path := filepath.Join(b.TempDir(), "journal")
		fill(b, path, jobs)
		b.Run(fmt.Sprintf("jobs=%d", jobs), func(b *testing.B) {
			for range b.N {
				j, err := journal.Open(ctx, path, journal.Options{})
				if err != nil {
					b.Fatal(err)
				}
				j.Close()
			}
		})
	}
}

// fill makes a journal with a history of jobs.
func fill(b *testing.B, path string, jobs int) {
	j, err := journal.Open(context.Background(), path, journal.Options{})
	if err != nil {
		b.Fatal(err)
	}
	var group sync.WaitGroup
	const callers = 64
	for c := range callers {
		group.Go(func() {
			for i := c; i < 3*jobs; i += callers {
				if _, err := j.Accept(context.Background(), delivery(i)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	group.Wait()
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
}

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// stopLimit is what systemd and people may count on.
const stopLimit = 2 * time.Second

// TestDaemonStopsInTime starts the real program, sends it SIGTERM, and wants
// it gone within two seconds, with 0. A machine that has no time for it just
// then gets two more chances.
func TestDaemonStopsInTime(t *testing.T) {
	for name, busy := range map[string]bool{"idle": false, "busy": true} {
		t.Run(name, func(t *testing.T) {
			for try := 1; ; try++ {
				took := stopOnce(t, busy)
				if took <= stopLimit {
					t.Logf("it took %s", took)
					return
				}
				if try == 3 {
					t.Fatalf("the stop takes %s, at most %s", took, stopLimit)
				}
			}
		})
	}
}

// stopOnce returns how long a daemon takes to stop. A busy one has clones under
// way that take a minute, a delivery that never ends, and somebody on the admin
// socket who says nothing.
func stopOnce(t *testing.T, busy bool) time.Duration {
	t.Helper()
	was := demoTiming
	demoTiming.Clone = time.Minute
	d, err := openDemo(&program{out: io.Discard, err: io.Discard}, demoOptions{seed: 1})
	demoTiming = was
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := d.startDaemon(ctx); err != nil {
		t.Fatal(err)
	}
	if busy {
		keepBusy(ctx, t, d)
	}
	began := time.Now()
	if err := d.stopDaemon(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

func keepBusy(ctx context.Context, t *testing.T, d *demo) {
	t.Helper()
	for range 8 {
		d.world.GitHub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"self-hosted", "linux"}, Duration: time.Minute})
	}
	address, err := url.Parse(d.webhook)
	if err != nil {
		t.Fatal(err)
	}
	half, err := net.Dial("tcp", address.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { half.Close() })
	if _, err := fmt.Fprintf(half, "POST /webhook HTTP/1.1\r\nHost: dayfly\r\nContent-Length: 1000\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Dial("unix", d.dir+"/dayfly.sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	err = d.wait(ctx, 20*time.Second, "clones are under way", func() bool {
		s, err := d.admin.Status(ctx)
		return err == nil && s.Queued == 8 && strings.Contains(fmt.Sprint(s.Runners), "clone")
	})
	if err != nil {
		t.Fatal(err)
	}
}

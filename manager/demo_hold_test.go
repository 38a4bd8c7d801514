package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// told is what a program has printed so far.
type told struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *told) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(b)
}

func (t *told) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// TestHeldDemoServesTheJobsThatItTellsHowToQueue does what the lines say that
// "dayfly demo --hold" prints.
func TestHeldDemoServesTheJobsThatItTellsHowToQueue(t *testing.T) {
	out := &told{}
	d, err := openDemo(&program{out: out, err: io.Discard}, demoOptions{seed: 1, hold: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := d.startDaemon(ctx); err != nil {
		t.Fatal(err)
	}
	held, end := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() { defer close(over); d.holdUp(held) }()
	defer func() { end(); <-over }()

	find := func(pattern string) string {
		re := regexp.MustCompile(pattern)
		for ctx.Err() == nil {
			if m := re.FindStringSubmatch(out.String()); m != nil {
				return m[1]
			}
			<-time.After(20 * time.Millisecond)
		}
		t.Fatalf("nothing like %s in\n%s", pattern, out)
		return ""
	}
	ask := func(method, url string) (int, string) {
		req, err := http.NewRequestWithContext(ctx, method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	address := find(`a job    curl -X POST '([^']+)'`)
	for url, want := range map[string]int{
		find(`GitHub   (http\S+)`) + "/meta":                http.StatusOK,
		find(`Proxmox  (http\S+)`) + "/api2/json/version":   http.StatusUnauthorized,
		find(`daemon   (http\S+)`) + "/healthz":             http.StatusOK,
		strings.Replace(address, "runs=5s", "runs=long", 1): http.StatusBadRequest,
	} {
		method := http.MethodGet
		if strings.Contains(url, "/jobs?") {
			method = http.MethodPost
		}
		if code, text := ask(method, url); code != want {
			t.Errorf("%s %s: got %d %s, want %d", method, url, code, text, want)
		}
	}
	if socket := find(`status   \S+ status --socket (\S+)`); !strings.HasPrefix(socket, d.dir) {
		t.Errorf("the daemon's socket is %s, want it in %s", socket, d.dir)
	}
	code, text := ask(http.MethodPost, strings.Replace(address, "runs=5s", "runs=10ms", 1))
	if code != http.StatusOK || !strings.Contains(text, "is queued; ask: ") || !strings.Contains(text, " explain --socket ") {
		t.Fatalf("the command that queues a job: got %d %s", code, text)
	}
	find(`(done +job 1 +success)`)
	if n := d.world.GitHub.Pending(); n != 0 {
		t.Errorf("%d jobs have not ended", n)
	}
}

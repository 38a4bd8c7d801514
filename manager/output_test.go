package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/fleet"
)

func TestDurationsReadWell(t *testing.T) {
	tests := []struct {
		d         time.Duration
		age, took string
	}{
		{-time.Second, "0s", "0ms"},
		{0, "0s", "0ms"},
		{4 * time.Millisecond, "0s", "4ms"},
		{1250 * time.Millisecond, "1s", "1.2s"},
		{12 * time.Second, "12s", "12s"},
		{59*time.Second + 999*time.Millisecond, "59s", "59s"},
		{3*time.Minute + 12*time.Second, "3m12s", "3m12s"},
		{5*time.Hour + 7*time.Minute, "5h7m", "5h7m"},
		{51 * time.Hour, "2d3h", "2d3h"},
	}
	for _, test := range tests {
		if got := age(test.d); got != test.age {
			t.Errorf("age(%v) is %s, want %s", test.d, got, test.age)
		}
		if got := took(test.d); got != test.took {
			t.Errorf("took(%v) is %s, want %s", test.d, got, test.took)
		}
	}
}

func TestTablesAlignWhatPeopleSee(t *testing.T) {
	var b bytes.Buffer
	empty := newTable("a", "b")
	if err := empty.write(&b, false); err != nil || b.Len() > 0 {
		t.Errorf("an empty table prints %q, %v", b.String(), err)
	}
	table := newTable("a", "b", "c")
	table.row("größer", "", "x")
	table.row("1", "22", "y")
	if err := table.write(&b, true); err != nil {
		t.Fatal(err)
	}
	want := "\x1b[1ma       b   c\x1b[0m\ngrößer  -   x\n1       22  y\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestErrorsAreOneLineAndExitAsTheyShould(t *testing.T) {
	tests := []struct {
		err  error
		code int
		want string
	}{
		{nil, 0, ""},
		{errNotice, 2, ""},
		{errors.New("boom"), 1, "dayfly: error: boom\n"},
		{errors.Join(errors.New("a"), errors.New("b")), 1, "dayfly: error: a: b\n"},
		{hinted{errors.New("a"), "do b"}, 1, "dayfly: error: a\nhint: do b\n"},
		{fmt.Errorf("c: %w", hinted{usageError{errors.New("a")}, "do b"}), 2, "dayfly: error: c: a\nhint: do b\n"},
	}
	for _, test := range tests {
		var b bytes.Buffer
		if got := report(&b, test.err); got != test.code || b.String() != test.want {
			t.Errorf("%v: exits with %d and prints %q, want %d and %q", test.err, got, b.String(), test.code, test.want)
		}
	}
}

func TestLogsAreJSONUnlessTold(t *testing.T) {
	for format, want := range map[string]string{"": `"msg":"hello"`, "json": `"msg":"hello"`, "text": "msg=hello"} {
		var b bytes.Buffer
		log := newLog(&b, slog.LevelWarn, format)
		log.Info("quiet")
		log.Warn("hello")
		if got := b.String(); !strings.Contains(got, want) || strings.Contains(got, "quiet") {
			t.Errorf("format %q logs %s, want %s only", format, got, want)
		}
	}
}

func TestFollowTellsChangesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := func(id int64, status, runner string) daemon.JobStatus {
			return daemon.JobStatus{ID: id, Status: status, Runner: runner}
		}
		gone := fmt.Errorf("ask: %w", daemon.ErrNoDaemon)
		listings := []struct {
			jobs []daemon.JobStatus
			err  error
		}{
			{[]daemon.JobStatus{job(2, "queued", ""), job(1, "in_progress", "r1")}, nil},
			{[]daemon.JobStatus{job(2, "queued", ""), job(1, "in_progress", "r1")}, nil},
			{nil, gone},
			{nil, gone},
			{[]daemon.JobStatus{job(3, "queued", ""), job(2, "in_progress", "r2"), job(1, "completed", "r1")}, nil},
			{nil, gone},
		}
		ctx, cancel := context.WithCancel(context.Background())
		var said []string
		n := 0
		f := follower{
			list: func() ([]daemon.JobStatus, error) {
				l := listings[n]
				if n++; n == len(listings) {
					cancel()
				}
				return l.jobs, l.err
			},
			show: func(j daemon.JobStatus) error {
				said = append(said, fmt.Sprintf("%d %s %s", j.ID, j.Status, j.Runner))
				return nil
			},
			lost: func(error) { said = append(said, "lost") },
		}
		began := time.Now()
		if err := f.run(ctx); err != nil {
			t.Fatal(err)
		}
		want := []string{"1 in_progress r1", "2 queued ", "lost", "1 completed r1", "2 in_progress r2", "3 queued "}
		if !slices.Equal(said, want) {
			t.Errorf("got %q, want %q", said, want)
		}
		if took := time.Since(began); took != 5*followEvery {
			t.Errorf("took %v, want %v", took, 5*followEvery)
		}
	})
}

func TestFollowEndsWithOtherErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		answers := []error{nil, boom}
		f := follower{list: func() ([]daemon.JobStatus, error) {
			err := answers[0]
			answers = answers[1:]
			return nil, err
		}}
		if err := f.run(t.Context()); !errors.Is(err, boom) {
			t.Errorf("got %v, want boom", err)
		}
	})
}

// TestReadyMeansThatTheLoopTurned: systemd starts what comes after the daemon
// when the daemon can answer.
func TestReadyMeansThatTheLoopTurned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	ctx, cancel := context.WithCancel(t.Context())
	var order []string
	healthy := func(context.Context) error {
		_ = told.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // what is there already comes at once
		if _, err := told.Read(make([]byte, 100)); err == nil {
			order = append(order, "told")
		}
		order = append(order, "turned")
		cancel()
		return nil
	}
	if err := supervised(ctx, healthy, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	_ = told.SetReadDeadline(time.Now().Add(patience))
	for range 2 {
		buf := make([]byte, 100)
		n, err := told.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, string(buf[:n]))
	}
	if want := []string{"turned", "READY=1", "STOPPING=1"}; !slices.Equal(order, want) {
		t.Errorf("got %q, want %q", order, want)
	}
}

// TestWatchdogIsFedByHealthOnly: a loop that hangs is restarted by systemd.
func TestWatchdogIsFedByHealthOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		hangs := func() bool { s := time.Since(began); return s >= 3*time.Second && s < 6*time.Second }
		healthy := func(ctx context.Context) error {
			if hangs() {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		var fed []time.Duration
		done := make(chan struct{})
		go func() {
			defer close(done)
			watch(ctx, time.Second, healthy, func() { fed = append(fed, time.Since(began)) })
		}()
		time.Sleep(8*time.Second + time.Millisecond)
		cancel()
		<-done
		for _, at := range fed {
			if at >= 3*time.Second && at < 6*time.Second {
				t.Errorf("fed at %v while the loop hung", at)
			}
		}
		if len(fed) < 5 {
			t.Errorf("fed at %v, want every second while healthy", fed)
		}
	})
}

func TestJobsAreFoundInAddresses(t *testing.T) {
	for text, want := range map[string]fleet.JobID{
		"42": 42,
		"https://github.com/acme/app/actions/runs/7/job/42":             42,
		"https://github.com/acme/app/actions/runs/7/job/42?pr=3#step:1": 42,
		"https://github.com/acme/jobs/actions/runs/7/job/42":            42,
		"https://api.github.com/repos/acme/app/actions/jobs/42/logs":    42,
		"github.com/acme/app/actions/runs/7/job/42":                     42,
		"":                      0,
		"0":                     0,
		"-1":                    0,
		"99999999999999999999":  0,
		"https://github.com/":   0,
		"https://github.com/%z": 0,
		"https://github.com/acme/app/actions/runs/7":     0,
		"https://github.com/acme/app/actions/runs/7/job": 0,
	} {
		got, err := parseJob(text)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("parseJob(%q) is %d, %v; want %d", text, got, err, want)
		}
	}
}

func FuzzParseJob(f *testing.F) {
	f.Add("42")
	f.Add("https://github.com/acme/app/actions/runs/7/job/42?pr=3#step:1")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := parseJob(text)
		if (err == nil) != (id > 0) {
			t.Errorf("parseJob(%q) is %d, %v", text, id, err)
		}
	})
}

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// trackingVariable marks every process of a job: those that are left at its
// end are killed (JobExtension.cs).
const trackingVariable = "RUNNER_TRACKING_ID"

// worker runs the steps of one job.
type worker struct {
	root     string
	job      job
	broker   *broker
	diag     *diag
	ctx      context.Context // it ends when the job is cancelled
	tracking string
	log      *jobLog
}

func work(root string) int {
	w := &worker{root: root, tracking: "github_" + rand.Text()}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	w.ctx = ctx
	if err := json.NewDecoder(os.Stdin).Decode(&w.job); err != nil {
		fmt.Fprintln(os.Stderr, "read job:", err)
		return terminated
	}
	w.broker = &broker{url: w.job.Broker, session: w.job.Session}
	var err error
	if w.diag, err = openDiag(root, "Worker"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return jobResultOffset + resultFailed
	}
	defer w.diag.Close()
	w.log = &jobLog{broker: w.broker, id: w.job.ID}
	result := w.run()
	w.endOrphans()
	w.log.flush()
	w.diag.say("INFO", "Job result: %s", resultNames[result])
	return jobResultOffset + result
}

func (w *worker) run() int {
	w.setUp()
	dir := filepath.Join(w.root, "_work", path.Base(w.job.Repository), path.Base(w.job.Repository))
	for _, d := range []string{dir, w.temp()} {
		if err := os.MkdirAll(d, 0o777); err != nil {
			w.say("##[error]%v", err)
			return resultFailed
		}
	}
	result := resultSucceeded
	if err := w.hook("STARTED", dir); err != nil {
		w.say("##[error]Process completed with an error: %v", err)
		result = resultFailed
	}
	for _, step := range w.job.Steps {
		if result != resultSucceeded || w.ctx.Err() != nil {
			break
		}
		w.say("##[group]Run %s", step.Name)
		w.say("%s", step.Run)
		w.say("##[endgroup]")
		if err := w.script(step.Run, dir); err != nil {
			w.say("##[error]Process completed with exit code: %v", err)
			result = resultFailed
		}
	}
	if err := w.hook("COMPLETED", dir); err != nil && result == resultSucceeded {
		result = resultFailed
	}
	if w.ctx.Err() != nil {
		w.say("##[error]The operation was canceled.")
		return resultCanceled
	}
	return result
}

func (w *worker) temp() string { return filepath.Join(w.root, "_work", "_temp") }

// setUp prints what every job's log begins with, and .setup_info
// (JobExtension.cs).
func (w *worker) setUp() {
	w.say("Current runner version: '%s'", version(w.root))
	text, err := os.ReadFile(filepath.Join(w.root, ".setup_info"))
	if err != nil {
		return
	}
	var groups []struct{ Group, Detail string }
	if err := json.Unmarshal(text, &groups); err != nil {
		w.diag.say("ERR", "read .setup_info: %v", err)
		return
	}
	for _, g := range groups {
		w.say("##[group]%s\n%s\n##[endgroup]", g.Group, g.Detail)
	}
}

// hook runs one of the hooks, if it is set: it must end for the job to go on.
func (w *worker) hook(name, dir string) error {
	file := os.Getenv("ACTIONS_RUNNER_HOOK_JOB_" + name)
	if file == "" {
		return nil
	}
	w.say("A job %s hook has been configured by the self-hosted runner administrator", strings.ToLower(name))
	return w.command(dir, "bash", "-e", file)
}

// script runs a step as the real one does for "run" without a shell.
func (w *worker) script(text, dir string) error {
	file := filepath.Join(w.temp(), rand.Text()+".sh")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o666); err != nil {
		return err
	}
	defer os.Remove(file)
	return w.command(dir, "bash", "-e", file)
}

// command runs a program of the job. A cancelled one is asked twice before it
// is killed (ProcessInvoker.cs).
func (w *worker) command(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = dir, w.log, w.log, 5*time.Second
	cmd.Env = append(os.Environ(), trackingVariable+"="+w.tracking, "CI=true", "GITHUB_ACTIONS=true", "GITHUB_JOB="+w.job.Name,
		"GITHUB_REPOSITORY="+w.job.Repository, "GITHUB_WORKSPACE="+dir, "RUNNER_TEMP="+w.temp(), "RUNNER_OS=Linux")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		for _, s := range []struct {
			after  time.Duration
			signal syscall.Signal
		}{{0, syscall.SIGINT}, {7500 * time.Millisecond, syscall.SIGTERM}, {2500 * time.Millisecond, syscall.SIGKILL}} {
			select {
			case <-done:
				return
			case <-w.ctx.Done():
			}
			select {
			case <-done:
				return
			case <-time.After(s.after):
				_ = syscall.Kill(-cmd.Process.Pid, s.signal)
			}
		}
	}()
	err := cmd.Wait()
	close(done)
	if errors.Is(err, exec.ErrWaitDelay) {
		w.say("The STDIO streams did not close within 5 seconds of the exit event: something is left that holds them.")
		return nil
	}
	return err
}

// endOrphans kills what the job has left behind and still can be told by its
// environment.
func (w *worker) endOrphans() {
	w.say("Cleaning up orphan processes")
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(text, []byte(trackingVariable+"="+w.tracking)) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(f, "/")[2]); err == nil {
			w.say("Terminate orphan process: pid (%d)", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func (w *worker) say(format string, args ...any) { fmt.Fprintf(w.log, format+"\n", args...) }

// jobLog sends what is written to it to the server, in pieces.
type jobLog struct {
	broker *broker
	id     int64
	mu     sync.Mutex
	kept   bytes.Buffer
}

var _ io.Writer = (*jobLog)(nil)

const logPiece = 64 << 10

// Write implements io.Writer.
func (l *jobLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept.Write(p)
	if l.kept.Len() >= logPiece {
		l.send()
	}
	return len(p), nil
}

func (l *jobLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.send()
}

func (l *jobLog) send() {
	_ = l.broker.log(l.id, l.kept.Bytes()) // a log is not worth a job
	l.kept.Reset()
}

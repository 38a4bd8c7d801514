package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/runner/began"
)

// Times of the real one.
const (
	connectAgain  = 30 * time.Second // after a failure to connect (MessageListener.cs)
	conflictAgain = 30 * time.Second
	conflictLimit = 4 * time.Minute
)

// listener is one run of Runner.Listener.
type listener struct {
	root    string
	version string
	diag    *diag
	broker  *broker
	hosted  bool // the job's result is the exit code
	files   []string
}

func listen(root string, args []string) int {
	if len(args) > 0 && args[0] == "--version" {
		fmt.Println(version(root))
		return success
	}
	if len(args) == 0 || args[0] != "run" && args[0] != "warmup" {
		fmt.Fprintln(os.Stderr, "unrecognized command-line input arguments")
		return terminated
	}
	if args[0] == "warmup" {
		return success
	}
	if err := loadEnv(root); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return terminated
	}
	config := os.Getenv(jitConfigVariable)
	_ = os.Unsetenv(jitConfigVariable)
	l := &listener{root: root, version: version(root), hosted: os.Getenv(resultVariable) == "1"}
	var err error
	if l.diag, err = openDiag(root, "Runner"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return terminated
	}
	defer l.diag.Close()
	l.diag.say("INFO", "Began %d us after the machine", began.At/1000)
	url, err := l.takeConfig(config)
	if err != nil {
		fmt.Fprintln(os.Stderr, "An error occurred:", err)
		l.diag.say("ERR", "JIT config: %v", err)
		return terminated
	}
	defer l.forget()
	l.broker = &broker{url: url, config: config, version: l.version}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return l.run(ctx)
}

// takeConfig writes the files that the config holds into the root, with the
// umask as it is (Runner.cs), and returns the broker's address.
func (l *listener) takeConfig(config string) (string, error) {
	text, err := base64.StdEncoding.DecodeString(config)
	if err != nil {
		return "", fmt.Errorf("decode: %w", err)
	}
	files := map[string][]byte{}
	if err := json.Unmarshal(text, &files); err != nil {
		return "", fmt.Errorf("decode: %w", err)
	}
	for name, content := range files {
		path := filepath.Join(l.root, name)
		l.files = append(l.files, path)
		if err := os.WriteFile(path, content, 0o666); err != nil {
			return "", err
		}
	}
	var settings struct{ ServerURLV2 string }
	if err := json.Unmarshal(files[".runner"], &settings); err != nil || settings.ServerURLV2 == "" {
		return "", errors.New("no .runner in it that names a server")
	}
	return settings.ServerURLV2, nil
}

// forget removes what the config has brought: the runner is ephemeral.
func (l *listener) forget() {
	for _, f := range l.files {
		_ = os.Remove(f)
	}
}

func (l *listener) say(format string, args ...any) {
	fmt.Printf(time.Now().UTC().Format("2006-01-02 15:04:05Z")+": "+format+"\n", args...)
	l.diag.say("INFO", format, args...)
}

func (l *listener) run(ctx context.Context) int {
	if code, err := l.connect(ctx); err != nil {
		fmt.Println(err)
		l.diag.say("ERR", "session: %v", err)
		return code
	}
	fmt.Printf("\n√ Connected to GitHub\n\nCurrent runner version: '%s'\n", l.version)
	l.say("Listening for Jobs")
	for {
		m, err := l.broker.message(ctx)
		switch {
		case ctx.Err() != nil:
			fmt.Println("Exiting...")
			l.broker.close()
			return success
		case errors.Is(err, errGone):
			fmt.Println(err)
			return success
		case err != nil:
			l.say("Runner connect error: %v. Retrying until reconnected.", err)
			pause(ctx, time.Second)
		case m.Type == "Closed":
			return l.closed(m.Text)
		case m.Type == "RunnerJobRequest":
			if code, ran := l.job(ctx, m.Job); ran {
				return code
			}
			return success // an ephemeral runner whose job is gone (since 2.336.0)
		}
	}
}

// connect opens the session, however long that takes.
func (l *listener) connect(ctx context.Context) (int, error) {
	until := time.Now().Add(conflictLimit)
	for {
		err := l.broker.open(ctx)
		wait := connectAgain
		switch {
		case err == nil:
			return success, nil
		case ctx.Err() != nil:
			return success, ctx.Err()
		case errors.Is(err, errConflict):
			if time.Now().After(until) {
				return sessionConflict, err
			}
			wait = conflictAgain
		case errors.Is(err, errGone), errors.Is(err, errBadConfig):
			return terminated, err
		case errors.Is(err, errDeprecated):
			return deprecatedCode(), err
		}
		l.say("Runner connect error: %v. Retrying until reconnected.", err)
		pause(ctx, wait)
	}
}

// closed is the end of the session by the server.
func (l *listener) closed(text string) int {
	fmt.Println(text)
	if errDeprecated.is(text) {
		return deprecatedCode()
	}
	return success
}

func deprecatedCode() int {
	if os.Getenv(deprecatedVariable) == "1" {
		return versionDeprecated
	}
	return terminated
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// job runs one job in a worker process, and reports whether there was one.
func (l *listener) job(ctx context.Context, id int64) (code int, ran bool) {
	job, err := l.broker.acquire(ctx, id)
	if err != nil {
		l.diag.say("ERR", "acquire job %d: %v", id, err)
		return success, false
	}
	l.say("Running job: %s", job.Name)
	job.Broker, job.Session = l.broker.url, l.broker.session
	order, err := json.Marshal(job)
	if err != nil {
		return retryable, true
	}
	worker := exec.Command(filepath.Join(l.root, "bin", "Runner.Worker"), "spawnclient", "3", "4")
	worker.Stdin, worker.Stdout, worker.Stderr = bytes.NewReader(order), os.Stdout, os.Stderr
	worker.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what stops us is passed on in good order
	if err := worker.Start(); err != nil {
		l.diag.say("ERR", "start worker: %v", err)
		return retryable, true
	}
	watch, done := context.WithCancel(ctx)
	go l.watch(watch, worker.Process)
	err = worker.Wait()
	done()
	result := worker.ProcessState.ExitCode() - jobResultOffset
	name, known := resultNames[result]
	if !known {
		l.diag.say("ERR", "worker: %v", err)
		name, result = "Failed", resultFailed
	}
	if err := l.broker.complete(id, conclusions[result]); err != nil {
		l.diag.say("ERR", "complete job: %v", err)
	}
	l.say("Job %s completed with result: %s", job.Name, name)
	if l.hosted {
		return jobResultOffset + result, true
	}
	return success, true
}

// watch cancels the job when the server or a signal says so.
func (l *listener) watch(ctx context.Context, worker *os.Process) {
	for {
		m, err := l.broker.message(ctx)
		switch {
		case err == nil && m.Type == "JobCancellation":
			_ = worker.Signal(syscall.SIGINT)
			return
		case ctx.Err() != nil:
			_ = worker.Signal(syscall.SIGINT) // too late for one that has ended
			return
		case err != nil:
			pause(ctx, time.Second)
		}
	}
}

// Results of a job (TaskResult).
const (
	resultSucceeded = 0
	resultFailed    = 2
	resultCanceled  = 3
)

var (
	resultNames = map[int]string{resultSucceeded: "Succeeded", resultFailed: "Failed", resultCanceled: "Canceled"}
	conclusions = map[int]string{resultSucceeded: "success", resultFailed: "failure", resultCanceled: "cancelled"}
)

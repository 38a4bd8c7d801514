package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// TestMain makes this program the runner where it lies in a runner's place.
func TestMain(m *testing.M) {
	if strings.HasPrefix(filepath.Base(os.Args[0]), "Runner.") {
		main()
	}
	os.Exit(m.Run())
}

// place is a folder with a runner in it, and the GitHub that it speaks to.
type place struct {
	t    *testing.T
	root string
	gh   *hub.Hub
}

const scope = "acme/app"

func newPlace(t *testing.T, version string) *place {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &place{t, t.TempDir(), hub.New(hub.Config{Broker: "http://" + l.Addr().String() + "/"})}
	p.gh.AddInstallation(hub.Installation{Account: "acme", Repositories: []string{"app"}})
	srv := &http.Server{Handler: p.gh.Broker(), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); p.gh.Close() })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err == nil {
		err = os.Mkdir(filepath.Join(p.root, "bin"), 0o755)
	}
	for _, name := range []string{"Runner.Listener", "Runner.Worker"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(p.root, "bin", name), text, 0o755))
	}
	if err := errors.Join(err, os.WriteFile(filepath.Join(p.root, "bin", "version"), []byte(version+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	return p
}

// said is what the runner has printed so far.
type spoken struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (s *spoken) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

// String is all of it.
func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// start starts the runner with a config.
func (p *place) start(config string, env ...string) (*exec.Cmd, *spoken) {
	p.t.Helper()
	cmd, out := exec.CommandContext(p.t.Context(), filepath.Join(p.root, "bin", "Runner.Listener"), "run"), new(spoken)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.root, out, out
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), jitConfigVariable + "=" + config}, env...)
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	return cmd, out
}

// run runs the runner to its end.
func (p *place) run(config string, env ...string) (code int, said string) {
	p.t.Helper()
	cmd, out := p.start(config, env...)
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), out.String()
}

func (p *place) mint() string { return p.gh.Mint(scope, "r", "linux") }

// job queues a job of bash steps.
func (p *place) job(steps ...string) hub.JobID {
	n := hub.NewJob{Repo: scope, Name: "build", Labels: []string{"linux"}}
	for i, s := range steps {
		n.Steps = append(n.Steps, hub.Step{Name: fmt.Sprint("step ", i+1), Run: s})
	}
	return p.gh.QueueJob(n)
}

func (p *place) has(said string, words ...string) {
	p.t.Helper()
	for _, w := range words {
		if !strings.Contains(said, w) {
			p.t.Errorf("it does not say %q:\n%s", w, said)
		}
	}
}

// TestOneJobAndTheEnd: the words that people and programs look for, the hooks,
// and nothing of the config afterwards, nor in the job's environment.
func TestOneJobAndTheEnd(t *testing.T) {
	p := newPlace(t, "2.340.0")
	hook := func(name string) string {
		file := filepath.Join(p.root, name)
		if err := os.WriteFile(file, []byte("echo the hook "+name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	env := "ACTIONS_RUNNER_HOOK_JOB_STARTED=" + hook("begins") + "\nACTIONS_RUNNER_HOOK_JOB_COMPLETED=" + hook("ends") + "\nFROM_FILE=1\n"
	if err := os.WriteFile(filepath.Join(p.root, ".env"), []byte(env), 0o644); err != nil {
		t.Fatal(err)
	}
	id := p.job("echo first; env | grep -c JITCONFIG || true; ls -a \"$PWD/../../..\"", "echo second $FROM_FILE $GITHUB_REPOSITORY")
	code, said := p.run(p.mint())
	if j, _ := p.gh.Job(id); code != 0 || j.Conclusion != hub.Success {
		t.Errorf("exit code %d, the job ended with %q", code, j.Conclusion)
	}
	p.has(said, "√ Connected to GitHub", "Current runner version: '2.340.0'", "Listening for Jobs", "Running job: build", "Job build completed with result: Succeeded")
	log := p.gh.JobLog(id)
	p.has(log, "the hook begins\n", "first\n0\n", "\n.credentials\n", "\n.credentials_rsaparams\n", "\n.runner\n", "second 1 acme/app\n", "the hook ends\n")
	for _, name := range []string{".runner", ".credentials", ".credentials_rsaparams"} {
		if _, err := os.Stat(filepath.Join(p.root, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
	for _, pattern := range []string{"Runner_*-utc.log", "Worker_*-utc.log"} {
		if list, _ := filepath.Glob(filepath.Join(p.root, "_diag", pattern)); len(list) != 1 {
			t.Errorf("%q in _diag, want one %s", list, pattern)
		}
	}
}

// TestFailedStepEndsTheJob, whose result is the exit code only where it is asked
// for.
func TestFailedStepEndsTheJob(t *testing.T) {
	for env, want := range map[string]int{"A=": success, resultVariable + "=1": jobResultOffset + resultFailed} {
		p := newPlace(t, "2.340.0")
		id := p.job("exit 3", "echo never")
		code, said := p.run(p.mint(), env)
		if j, _ := p.gh.Job(id); code != want || j.Conclusion != hub.Failure {
			t.Errorf("%s: exit code %d, want %d; the job ended with %q", env, code, want, j.Conclusion)
		}
		p.has(said, "Job build completed with result: Failed")
		if log := p.gh.JobLog(id); strings.Contains(log, "\nnever\n") || !strings.Contains(log, "##[error]Process completed with exit code: exit status 3") {
			t.Errorf("%s: the log is %s", env, log)
		}
	}
}

// TestWhatGitHubRefusesIsTheExitCode: 1 for most, 7 for its version where it may
// say so.
func TestWhatGitHubRefusesIsTheExitCode(t *testing.T) {
	const tells = deprecatedVariable + "=1"
	for name, c := range map[string]struct {
		version string
		policy  hub.VersionPolicy
		config  func(*place) string
		env     string
		code    int
		says    string
	}{
		"no config": {"2.340.0", 0, func(*place) string { return "no base64" }, tells, terminated, "An error occurred: decode"},
		"a second time": {"2.340.0", 0, func(p *place) string { c := p.mint(); p.job("true"); p.run(c); return c }, tells, terminated,
			"The runner registration has been deleted from the server"},
		"too old to listen":  {"2.300.0", hub.RefuseMessages, (*place).mint, tells, versionDeprecated, "Runner version v2.300.0 is deprecated and cannot receive messages"},
		"too old to connect": {"2.300.0", hub.RefuseSession, (*place).mint, tells, versionDeprecated, "is deprecated and cannot receive messages"},
		"too old, unsaid":    {"2.300.0", hub.RefuseMessages, (*place).mint, "A=", terminated, "is deprecated and cannot receive messages"},
	} {
		p := newPlace(t, c.version)
		p.gh.SetVersions(hub.Versions{Policy: c.policy})
		code, said := p.run(c.config(p), c.env)
		if code != c.code {
			t.Errorf("%s: exit code %d, want %d", name, code, c.code)
		}
		p.has(said, c.says)
	}
}

// TestInterruptCancelsTheJob, and an idle runner ends in good order.
func TestInterruptCancelsTheJob(t *testing.T) {
	for name, c := range map[string]struct {
		steps []string
		until func(*place, *spoken, hub.JobID) bool
		says  string
	}{
		"idle": {nil, func(_ *place, s *spoken, _ hub.JobID) bool { return strings.Contains(s.String(), "Listening for Jobs") }, "Exiting..."},
		"busy": {[]string{"touch $RUNNER_TEMP/../begun; sleep 600"}, func(p *place, _ *spoken, _ hub.JobID) bool {
			_, err := os.Stat(filepath.Join(p.root, "_work", "begun"))
			return err == nil
		}, "Job build completed with result: Canceled"},
	} {
		p := newPlace(t, "2.340.0")
		var id hub.JobID
		if len(c.steps) > 0 {
			id = p.job(c.steps...)
		}
		cmd, out := p.start(p.mint())
		for late := time.After(time.Minute); !c.until(p, out, id); {
			select {
			case <-late:
				t.Fatalf("%s: it does not get there:\n%s", name, out)
			case <-time.After(5 * time.Millisecond):
			}
		}
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != success {
			t.Errorf("%s: exit code %d", name, code)
		}
		p.has(out.String(), c.says)
		if j, _ := p.gh.Job(id); id != 0 && j.Conclusion != hub.Cancelled {
			t.Errorf("%s: the job ended with %q", name, j.Conclusion)
		}
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

var update = flag.Bool("update", false, "write the outputs that scripts compare with")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dayfly": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			env.Setenv("TERM", "xterm")
			env.Setenv("DAYFLY_SOCKET", filepath.Join(env.WorkDir, "dayfly.sock"))
			env.Values[serviceKey{}] = new(*service)
			env.Values[relayKey{}] = new(*relay)
			env.Values[clusterKey{}] = new(*pve.Cluster)
			env.Values[askedKey{}] = &asked{more: make(chan struct{}, 1)}
			return nil
		},
		Cmds: scriptCmds(),
	})
}

func scriptCmds() map[string]func(*testscript.TestScript, bool, []string) {
	cmds := map[string]func(*testscript.TestScript, bool, []string){
		"admin": serveAdmin,
		"asked": wasAsked,
		"await": awaitAsked,
		"exits": exits,

		"proxmox":    serveProxmox,
		"containers": containersAre,
	}
	maps.Copy(cmds, serviceCmds)
	maps.Copy(cmds, gitCmds)
	return cmds
}

// exits runs a command and compares its exit code: "exits 2 dayfly status".
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG]...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		got = fmt.Sprint(exit.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != args[0] {
		ts.Fatalf("%s exits with %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// asked is what the admin server was asked.
type asked struct {
	mu   sync.Mutex
	list []string
	more chan struct{} // has one when list grew
}

type askedKey struct{}

func (a *asked) add(request string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, request)
	select {
	case a.more <- struct{}{}:
	default:
	}
}

func (a *asked) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.list)
}

// awaitAsked waits until the daemon was asked so many times: "await 2".
func awaitAsked(ts *testscript.TestScript, _ bool, args []string) {
	a := ts.Value(askedKey{}).(*asked)
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	for timeout := time.After(time.Minute); a.len() < n; {
		select {
		case <-a.more:
		case <-timeout:
			ts.Fatalf("the daemon was asked %d times, want %d", a.len(), n)
		}
	}
}

// wasAsked checks the last request: "asked GET /v1/jobs?limit=50".
func wasAsked(ts *testscript.TestScript, _ bool, args []string) {
	a := ts.Value(askedKey{}).(*asked)
	a.mu.Lock()
	defer a.mu.Unlock()
	want := strings.Join(args, " ")
	if len(a.list) == 0 || a.list[len(a.list)-1] != want {
		ts.Fatalf("the daemon was asked %q, want last %q", a.list, want)
	}
}

// answers are the types that the daemon answers with, so that the files that
// scripts serve cannot differ from them.
var answers = map[string]func() any{
	"GET /v1/status":  func() any { return new(daemon.Status) },
	"GET /v1/plan":    func() any { return new(daemon.PlanStatus) },
	"GET /v1/jobs":    func() any { return new([]daemon.JobStatus) },
	"GET /v1/jobs/42": func() any { return new(daemon.JobDetail) },
	"POST /v1/sync":   func() any { return new(struct{}) },

	"GET /v1/rollouts":         func() any { return new([]daemon.RolloutStatus) },
	"GET /v1/rollouts/history": func() any { return new([]daemon.RolloutTurn) },
	"POST /v1/preview":         func() any { return new(daemon.Preview) },

	"POST /v1/rollouts/a/pause":   func() any { return new(daemon.RolloutStatus) },
	"POST /v1/rollouts/a/resume":  func() any { return new(daemon.RolloutStatus) },
	"POST /v1/rollouts/a/promote": func() any { return new(daemon.RolloutStatus) },
	"POST /v1/rollouts/a/abort":   func() any { return new(daemon.RolloutStatus) },
	"POST /v1/rollouts/a/retry":   func() any { return new(daemon.RolloutStatus) },
}

// serveAdmin starts a daemon's admin API that answers from files: "admin
// 'GET /v1/status' status.json ...". In them, {{ago "2h"}} is a time.
func serveAdmin(ts *testscript.TestScript, _ bool, args []string) {
	mux := http.NewServeMux()
	for ; len(args) >= 2; args = args[2:] {
		body := render(ts, args[0], ts.ReadFile(args[1]))
		mux.HandleFunc(args[0], func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	}
	l, err := net.Listen("unix", ts.Getenv("DAYFLY_SOCKET"))
	ts.Check(err)
	a := ts.Value(askedKey{}).(*asked)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.add(r.Method + " " + r.URL.String())
		mux.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	ts.Defer(func() { _ = srv.Close(); <-done })
}

// render fills in a file's times and checks it against the API's types.
func render(ts *testscript.TestScript, route, text string) []byte {
	if !strings.HasPrefix(strings.TrimSpace(text), "{") && !strings.HasPrefix(strings.TrimSpace(text), "[") {
		return []byte(text) // not JSON, on purpose
	}
	ago := func(s string) (string, error) {
		d, err := time.ParseDuration(s)
		return time.Now().Add(-d).UTC().Format(time.RFC3339Nano), err
	}
	t, err := template.New(route).Funcs(template.FuncMap{"ago": ago}).Parse(text)
	ts.Check(err)
	var b bytes.Buffer
	ts.Check(t.Execute(&b, nil))
	d := json.NewDecoder(bytes.NewReader(b.Bytes()))
	d.DisallowUnknownFields()
	ts.Check(d.Decode(answers[route]()))
	return b.Bytes()
}

// TestEveryCommandHasAScript keeps help and behaviour of all commands covered.
func TestEveryCommandHasAScript(t *testing.T) {
	help, err := os.ReadFile(filepath.Join("testdata", "script", "help.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	p := &program{}
	for _, cmd := range p.command().Commands() {
		if want := "exec dayfly " + cmd.Name() + " --help"; !strings.Contains(string(help), want) {
			t.Errorf("help.txtar does not run %q", want)
		}
		if _, err := os.Stat(filepath.Join("testdata", "script", cmd.Name()+".txtar")); err != nil {
			t.Errorf("command %s has no script: %v", cmd.Name(), err)
		}
	}
}

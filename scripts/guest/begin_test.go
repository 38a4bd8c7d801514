package guest

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// beginning is a place for begin to run in, with stand-ins for what it starts.
type beginning struct {
	dir   string
	cmd   *exec.Cmd
	wrote strings.Builder
}

const (
	canary = "Y29uZmln"
	config = variable + "=" + canary + "\n"
	passwd = "root:x:0:0:root:/root:/bin/bash\nrunner:x:1001:121::/home/runner:/bin/sh\n"
)

// beginIn prepares a start of begin. What it becomes writes its arguments and
// its environment into the file "became", and begun what it was told into "begun".
func beginIn(t *testing.T, dir string, env ...string) *beginning {
	t.Helper()
	b := &beginning{dir: dir}
	for name, text := range map[string]string{
		"bin/setpriv": "#!/bin/sh\n[ \"$1\" != --version ] || exit 0\nprintf '%s ' \"$@\" >" + dir + "/became\necho >>" + dir + "/became\n/usr/bin/env >>" + dir + "/became\n",
		"bin/begun":   "#!/bin/sh\necho \"$@\" >" + dir + "/begun\n/usr/bin/env >>" + dir + "/begun\n",
		"etc/passwd":  passwd,
	} {
		b.put(t, name, text)
	}
	b.cmd = exec.Command("sh", "files/begin", "runner", "60", "/opt/run", "now")
	b.cmd.Stdout, b.cmd.Stderr = &b.wrote, &b.wrote
	b.cmd.Env = append([]string{"PATH=" + dir + "/bin:" + os.Getenv("PATH"), "DAYFLY_LIB=" + dir + "/lib", "DAYFLY_RUN=" + dir + "/run", "DAYFLY_TRIES=0",
		"DAYFLY_ETC=" + dir + "/etc", "DAYFLY_BIN=" + dir + "/bin", "DAYFLY_SETUP_INFO=" + dir + "/info"}, env...)
	return b
}

// put writes a file with a rename, as a config comes.
func (b *beginning) put(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(b.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path+".part", []byte(text), 0o700), os.Rename(path+".part", path)); err != nil {
		t.Fatal(err)
	}
}

func (b *beginning) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// run runs it to its end, which must come with this exit code and these words.
func (b *beginning) run(t *testing.T, code int, said string) {
	t.Helper()
	if err := b.cmd.Run(); err != nil && b.cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if got := b.cmd.ProcessState.ExitCode(); got != code || b.wrote.String() != said {
		t.Fatalf("got %d, %q, want %d, %q", got, b.wrote.String(), code, said)
	}
}

// until waits for something that another process does.
func until(t *testing.T, what string, happened func() bool) {
	t.Helper()
	late := time.After(time.Minute)
	for tick := time.NewTicker(time.Millisecond); !happened(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func TestContainerRunsOnce(t *testing.T) {
	dir := t.TempDir()
	first := beginIn(t, dir)
	first.put(t, "run/jit", config)
	first.run(t, 0, "")
	if got := first.read(t, "became"); !strings.HasPrefix(got, "--reuid 1001 --regid 121 --init-groups -- /opt/run now \n") {
		t.Errorf("it became %q", got)
	}
	if left := first.read(t, "run/jit"); left != "" {
		t.Errorf("the runner runs and its config is still there: %q", left)
	}
	second := beginIn(t, dir)
	second.put(t, "run/jit", config)
	second.run(t, 17, "this container has run already\n")
	if _, err := os.Stat(dir + "/run/jit"); err == nil {
		t.Error("a config that must not be used is still there")
	}
}

func TestContainerThatCannotBeMarkedRunsNothing(t *testing.T) {
	b := beginIn(t, t.TempDir())
	b.put(t, "run/jit", config)
	b.put(t, "lib", "") // there is no folder, and can be none
	if err := b.cmd.Run(); err == nil || b.read(t, "became") != "" {
		t.Errorf("it ran: %v, %s", err, b.wrote.String())
	}
}

func TestUserMustExist(t *testing.T) {
	b := beginIn(t, t.TempDir())
	b.put(t, "etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")
	b.run(t, 1, "there is no user runner\n")
}

// The config may come at any time: before begin looks, and long after.
func TestRunnerWaitsForItsConfig(t *testing.T) {
	b := beginIn(t, t.TempDir())
	if err := os.MkdirAll(b.dir+"/run", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.cmd.Process.Kill() }) // if a check below fails
	tail := func() (pid string) {
		children, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, c := range children {
			if text, _ := os.ReadFile(c); string(text) == "tail\x00-q\x00-n\x00+1\x00-F\x00"+b.dir+"/run/jit\x00"+b.dir+"/run/.wait\x00" {
				pid = strings.Split(c, "/")[2]
			}
		}
		return pid
	}
	until(t, "it waits", func() bool { return tail() != "" })
	one := tail()
	until(t, "the kernel is to tell it", func() bool {
		fds, _ := filepath.Glob("/proc/" + one + "/fd/*")
		return slices.ContainsFunc(fds, func(fd string) bool { to, _ := os.Readlink(fd); return to == "anon_inode:inotify" })
	})
	if out, err := exec.Command("kill", "-9", one).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	until(t, "it waits again when what it waits with is gone", func() bool { pid := tail(); return pid != "" && pid != one })
	if got := b.read(t, "became"); got != "" {
		t.Fatalf("without a config, it became %q", got)
	}
	b.put(t, "run/jit", config)
	if err := b.cmd.Wait(); err != nil || b.wrote.String() != "" {
		t.Fatalf("%v: %s", err, b.wrote.String())
	}
	if got := b.read(t, "became"); !strings.Contains(got, "\n"+config) {
		t.Errorf("it became %q", got)
	}
	until(t, "nothing waits any more", func() bool { return tail() == "" })
}

func TestConfigIsTheRunnersEnvironment(t *testing.T) {
	b := beginIn(t, t.TempDir(), "LEFT=alone")
	b.put(t, "run/jit", config+`DAYFLY_POOL=linux
http_proxy="http://10.0.0.1:3128"
SPACES="a b  c"
NO_PROXY=10.0.0.0/8,*.lan
EQUALS=a=b
uid=0
line=forged
dayfly_text=forged
IFS=x
home="/tmp/\$(id)"
no name=x
1=x
BAD-NAME=x
`)
	b.run(t, 0, "")
	got := b.read(t, "became")
	for _, want := range []string{config, "DAYFLY_POOL=linux\n", "http_proxy=http://10.0.0.1:3128\n", "SPACES=a b  c\n", "NO_PROXY=10.0.0.0/8,*.lan\n", "EQUALS=a=b\n",
		"HOME=/home/runner\n", "USER=runner\n", "LOGNAME=runner\n", "SHELL=/bin/sh\n", "LEFT=alone\n", "--reuid 1001 --regid 121 ", "line=forged\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the runner has not %q:\n%s", want, got)
		}
	}
	for _, no := range []string{"BAD-NAME", "no name", "\n1=x"} {
		if strings.Contains(got, no) {
			t.Errorf("the runner has %q:\n%s", no, got)
		}
	}
	if n := strings.Count(got, canary); n != 1 {
		t.Errorf("the config is %d times in the runner's environment", n)
	}
	until(t, "begun runs", func() bool { return strings.Contains(b.read(t, "begun"), "PWD=") })
	if got := b.read(t, "begun"); !strings.HasPrefix(got, "1001:121 60\n") || strings.Contains(got, canary) {
		t.Errorf("begun was told %q", got)
	}
}

func TestRunnerHasItsTime(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"sleep", "systemctl", "chown"} {
		text := "#!/bin/sh\necho " + name + " \"$@\" >>" + dir + "/said\nls " + dir + "/run >>" + dir + "/said\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir+"/run/jit")
	write(t, dir+"/lib/started")
	out, code := sh(t, dir, "begun 1001:121 60", "PATH="+dir+":"+os.Getenv("PATH"))
	said, err := os.ReadFile(dir + "/said")
	want := "sleep 0.2\njit\nchown 1001:121 " + dir + "/run/.job\njit\nsleep 60\njob\nsystemctl stop --no-block dayfly-runner.service\njob\noverdue\n"
	if code != 0 || out != "" || err != nil || string(said) != want {
		t.Errorf("got %d, %q, %v; it said %q, want %q", code, out, err, said, want)
	}
	if at, err := os.Stat(dir + "/lib/reserve"); err != nil || at.Size() != 1<<20 {
		t.Errorf("no room is kept for evidence: %v", err)
	}
	if out, code := sh(t, dir, "ended", "SERVICE_RESULT=success", "EXIT_CODE=exited", "EXIT_STATUS=0"); code != 0 {
		t.Fatalf("%d, %q", code, out)
	}
	if got, err := os.ReadFile(dir + "/lib/exit.json"); err != nil || !strings.HasPrefix(string(got), `{"result":"timeout",`) {
		t.Errorf("the end is told as %s, %v", got, err)
	}
}

func TestRunnerWaitsForARoute(t *testing.T) {
	const head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	const none = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n"
	for name, c := range map[string]struct {
		route, route6 string
		there         bool
	}{
		"nothing":   {head, none, false},
		"link only": {head + "eth0\t00004D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", none, false},
		"IPv4":      {head + "eth0\t00000000\t01004D0A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n", none, true},
		"IPv6":      {head, none + strings.ReplaceAll(none, "      lo", "    eth0"), true},
	} {
		dir := t.TempDir()
		b := beginIn(t, dir, "DAYFLY_PROC="+dir, "DAYFLY_TRIES=5")
		b.put(t, "run/jit", config)
		for file, text := range map[string]string{"route": c.route, "ipv6_route": c.route6} {
			if err := os.WriteFile(dir+"/"+file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		naps := filepath.Join(dir, "naps")
		b.put(t, "bin/sleep", "#!/bin/sh\necho \"$@\" >>"+naps+"\n")
		b.run(t, 0, "")
		want := ""
		if !c.there {
			want = strings.Repeat("0.02\n", 5)
		}
		if got, err := os.ReadFile(naps); string(got) != want || err != nil && !os.IsNotExist(err) {
			t.Errorf("%s: it napped %q, want %q (%v)", name, got, want, err)
		}
	}
}

func TestJobsLogTellsWhereItRuns(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	facts := "Pool: linux\nNode: pve1\nContainer: 20001 " + host
	for name, c := range map[string]struct{ info, template, detail string }{
		"one line":    {`[{"group":"dayfly template","detail":"Template: x@1"}]`, "x@1", "Pool: linux\nTemplate: x@1\nNode: pve1\nContainer: 20001 " + host},
		"many lines":  {"[\n  {\n    \"group\": \"dayfly template\",\n    \"detail\": \"a [b] {c}\"\n  }\n]\n", "", facts},
		"empty":       {"[]\n", "", facts},
		"damaged":     {"{", "", facts},
		"hostile":     {"[]", `x"}]`, facts},
		"of two ends": {"[]", `x\n`, facts},
	} {
		dir := t.TempDir()
		b := beginIn(t, dir)
		b.put(t, "info", c.info)
		b.put(t, "run/jit", config+"DAYFLY_POOL=linux\nDAYFLY_NODE=pve1\nDAYFLY_VMID=20001\nDAYFLY_TEMPLATE="+c.template+"\n")
		b.run(t, 0, "")
		text := b.read(t, "info")
		var got []struct{ Group, Detail string }
		if err := json.Unmarshal([]byte(text), &got); err != nil || len(got) == 0 {
			t.Errorf("%s: %v: %s", name, err, text)
			continue
		}
		if last := got[len(got)-1]; last.Group != "dayfly runner" || last.Detail != c.detail {
			t.Errorf("%s: got %+v, want %q", name, last, c.detail)
		}
		if kept := strings.Contains(c.info, "template"); kept != (got[0].Group == "dayfly template") {
			t.Errorf("%s: what was there: %s", name, text)
		}
	}
}

func TestEndIsRecorded(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/run/jit")
	if out, code := sh(t, dir, "ended", "SERVICE_RESULT=exit-code", "EXIT_CODE=exited", "EXIT_STATUS=7"); code != 0 {
		t.Fatalf("%d, %q", code, out)
	}
	for _, where := range []string{"lib", "run"} {
		got, err := os.ReadFile(filepath.Join(dir, where, "exit.json"))
		if err != nil || !strings.HasPrefix(string(got), `{"result":"exit-code","code":"exited","status":"7","at":"20`) {
			t.Errorf("%s: got %s, %v", where, got, err)
		}
	}
	if _, err := os.Stat(dir + "/run/jit"); err == nil {
		t.Error("the config is still there")
	}
}

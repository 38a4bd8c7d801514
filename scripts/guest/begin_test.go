package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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
// Who owns what is not changed: the test's user may be anybody.
func beginIn(t *testing.T, dir string, env ...string) *beginning {
	t.Helper()
	b := &beginning{dir: dir}
	become, err := Files.ReadFile("files/become")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"bin/setpriv": "#!/bin/sh\necho \"$@\" >>" + dir + "/dropped\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n",
		"bin/chown":   "#!/bin/sh\necho \"$@\" >>" + dir + "/given\n",
		"bin/begun":   "#!/bin/sh\necho \"$@\" >" + dir + "/begun\n/usr/bin/env >>" + dir + "/begun\n",
		"bin/become":  string(become),
		"opt/runner":  "#!/bin/sh\necho \"$0 $*\" >" + dir + "/became\n/usr/bin/env >>" + dir + "/became\n",
		"etc/passwd":  passwd,
	} {
		b.put(t, name, text)
	}
	b.cmd = exec.Command("sh", "files/begin", "runner", "60", dir+"/opt/runner", "now")
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

// ways are how a config comes: before begin looks, and long after.
var ways = map[string]func(b *beginning, t *testing.T, text string){
	"there": func(b *beginning, t *testing.T, text string) {
		b.put(t, "run/jit", text)
		b.start(t)
	},
	"waited for": func(b *beginning, t *testing.T, text string) {
		b.start(t)
		b.waits(t)
		b.come(t, text)
	},
}

func (b *beginning) start(t *testing.T) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(b.dir+"/run", 0o755), b.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.cmd.Process.Kill() }) // if a check fails
}

// come brings a config, and says so, as the root half does.
func (b *beginning) come(t *testing.T, text string) {
	t.Helper()
	b.put(t, "run/jit", text)
	pipe, err := os.OpenFile(b.dir+"/run/.come", os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		_, err = pipe.WriteString("\n")
		err = errors.Join(err, pipe.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// waits waits until begin waits: as the user, with its shell of root's and sed.
func (b *beginning) waits(t *testing.T) (guard, sed int) {
	t.Helper()
	until(t, "it waits", func() bool {
		guard, sed = b.holder(t, "/run/.come"), 0
		if guard != 0 {
			sed = b.child(t, guard)
		}
		return sed != 0
	})
	return guard, sed
}

// holder is a shell that holds a file open.
func (b *beginning) holder(t *testing.T, file string) int {
	t.Helper()
	fds, err := filepath.Glob("/proc/[0-9]*/fd/3")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasSuffix(to, b.dir+file) {
			pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
			return pid
		}
	}
	return 0
}

// child is a program that another has started.
func (b *beginning) child(t *testing.T, parent int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", parent))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// ends waits for its end, which must come with this exit code and these words.
func (b *beginning) ends(t *testing.T, code int, said string) {
	t.Helper()
	if err := b.cmd.Wait(); b.cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if got := b.cmd.ProcessState.ExitCode(); got != code || b.wrote.String() != said {
		t.Fatalf("got %d, %q, want %d, %q", got, b.wrote.String(), code, said)
	}
}

func TestContainerRunsOnce(t *testing.T) {
	for way, bring := range ways {
		dir := t.TempDir()
		first := beginIn(t, dir)
		bring(first, t, config)
		first.ends(t, 0, "")
		if got := first.read(t, "became"); !strings.HasPrefix(got, dir+"/opt/runner now\n") {
			t.Errorf("%s: it became %q", way, got)
		}
		if got := first.read(t, "dropped"); !strings.HasPrefix(got, "--reuid 1001 --regid 121 --init-groups -- ") || strings.Contains(got, canary) {
			t.Errorf("%s: it became the user by %q", way, got)
		}
		until(t, "its config is no longer there", func() bool { return first.read(t, "run/jit") == "" })
		for again, bring := range ways {
			second := beginIn(t, dir)
			if err := exec.Command("sh", "-c", "rm -f "+dir+"/run/.[cgp]* "+dir+"/became").Run(); err != nil { // of the boot before
				t.Fatal(err)
			}
			bring(second, t, config)
			second.ends(t, 17, "this container has run already\n")
			if _, err := os.Stat(dir + "/run/jit"); err == nil || second.read(t, "became") != "" {
				t.Errorf("%s: a config that must not be used is still there, or was: %q", again, second.read(t, "became"))
			}
		}
	}
}

func TestContainerThatCannotBeMarkedRunsNothing(t *testing.T) {
	for way, bring := range ways {
		b := beginIn(t, t.TempDir())
		b.put(t, "lib", "") // there is no folder, and can be none
		bring(b, t, config)
		if err := b.cmd.Wait(); err == nil || b.cmd.ProcessState.ExitCode() != 17 || b.read(t, "became") != "" {
			t.Errorf("%s: it ran: %v, %s", way, err, b.wrote.String())
		}
		if !strings.HasSuffix(b.wrote.String(), b.dir+"/lib/started cannot be made\n") {
			t.Errorf("%s: it says %q", way, b.wrote.String())
		}
	}
}

// A shell takes the config as it is: what it would not take so is none.
func TestConfigIsNeverRunAsACommand(t *testing.T) {
	for name, line := range map[string]string{
		"command": "touch DIR/ran", "after a value": "A=x;touch DIR/ran", "substitution": "A=$(touch DIR/ran)", "in quotes": `A="$(touch DIR/ran)"`,
		"old quotes": "A=\"`touch DIR/ran`\"", "closed quotes": `A="x" touch DIR/ran "y"`, "no name": "1=x", "bad name": "BAD-NAME=x", "two words": "no name=x",
		"no value": "A", "open quotes": `A="x`, "back slash": `A="x\"`, "single quotes": "A='x'", "redirection": "A=>DIR/ran", "an order": "set +a", "empty": "",
		"letters of others": "A=\"\303\244\"",
	} {
		for way, bring := range ways {
			for at, text := range map[string]string{"first": line + "\n" + config, "last": config + line + "\n", "without an end": config + line} {
				if at != "last" && name != "command" {
					continue
				}
				b := beginIn(t, t.TempDir())
				bring(b, t, strings.ReplaceAll(text, "DIR", b.dir))
				b.ends(t, 17, "the JIT config is not of lines NAME=VALUE: not used\n")
				until(t, "the config is no longer there", func() bool { return b.read(t, "run/jit") == "" })
				if got := b.read(t, "became"); got != "" {
					t.Errorf("%s, %s, %s: it became %q", name, at, way, got)
				}
				if _, err := os.Stat(b.dir + "/ran"); err == nil {
					t.Errorf("%s, %s, %s: it was run", name, at, way)
				}
			}
		}
	}
}

// What waits may be killed, for want of memory: then no config is waited for, and
// none is taken by half.
func TestDeathOfWhatWaitsIsTheEnd(t *testing.T) {
	const none = "there is no whole JIT config\n"
	for name, c := range map[string]struct {
		kill func(guard, sed int) error
		late bool // it is known when the config comes
	}{
		"the guard": {func(guard, _ int) error { return syscall.Kill(guard, syscall.SIGKILL) }, false},
		"sed":       {func(_, sed int) error { return syscall.Kill(sed, syscall.SIGKILL) }, true},
	} {
		b := beginIn(t, t.TempDir())
		b.start(t)
		if err := c.kill(b.waits(t)); err != nil {
			t.Fatal(err)
		}
		if c.late {
			b.come(t, config)
		}
		if err := b.cmd.Wait(); err == nil || b.cmd.ProcessState.ExitCode() != 17 || !strings.HasSuffix(b.wrote.String(), none) || b.read(t, "became") != "" {
			t.Errorf("%s: %v: %s; it became %q", name, err, b.wrote.String(), b.read(t, "became"))
		}
	}
}

func TestUserMustExist(t *testing.T) {
	b := beginIn(t, t.TempDir())
	b.put(t, "etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")
	b.run(t, 1, "there is no user runner\n")
}

// The user has the one pipe that the config comes through; nothing is started when
// it comes, and nothing of what waited is left.
func TestRunnerWaitsForItsConfig(t *testing.T) {
	b := beginIn(t, t.TempDir())
	b.start(t)
	guard, sed := b.waits(t)
	if got := b.read(t, "given"); got != "1001 "+b.dir+"/run/.pass\n" {
		t.Errorf("the user was given %q", got)
	}
	b.put(t, "run/other", "")
	if got := b.read(t, "became"); got != "" || b.child(t, guard) != sed {
		t.Fatalf("without a config, it became %q", got)
	}
	b.come(t, config)
	b.ends(t, 0, "")
	if got := b.read(t, "became"); !strings.Contains(got, "\n"+config) {
		t.Errorf("it became %q", got)
	}
	until(t, "nothing waits any more", func() bool { return b.holder(t, "/run/.come") == 0 })
}

func TestConfigIsTheRunnersEnvironment(t *testing.T) {
	const text = config + `DAYFLY_POOL=linux
DAYFLY_TEMPLATE="ubuntu 24.04"
http_proxy="http://10.0.0.1:3128"
SPACES="a b  c"
NO_PROXY="10.0.0.0/8,*.lan"
ODD="it's [100 %] (good); #1  ~!{x} & <y> | *"
EQUALS=a=b
EMPTY=
uid="0"
line="forged"
info="/dev/null"
old="forged"
run="/tmp"
bin="/tmp"
set="x"
refuse="x"
`
	for way, bring := range ways {
		b := beginIn(t, t.TempDir(), "LEFT=alone")
		b.put(t, "info", "[]")
		bring(b, t, text)
		b.ends(t, 0, "")
		got := b.read(t, "became")
		for _, want := range []string{config, "DAYFLY_POOL=linux\n", "DAYFLY_TEMPLATE=ubuntu 24.04\n", "http_proxy=http://10.0.0.1:3128\n", "SPACES=a b  c\n",
			"NO_PROXY=10.0.0.0/8,*.lan\n", "ODD=it's [100 %] (good); #1  ~!{x} & <y> | *\n", "EQUALS=a=b\n", "EMPTY=\n", "uid=0\n", "line=forged\n", "info=/dev/null\n",
			"old=forged\n", "run=/tmp\n", "bin=/tmp\n", "HOME=/home/runner\n", "USER=runner\n", "LOGNAME=runner\n", "SHELL=/bin/sh\n", "LEFT=alone\n"} {
			if !strings.Contains(got, "\n"+want) {
				t.Errorf("%s: the runner has not %q:\n%s", way, want, got)
			}
		}
		for _, no := range []string{"\nname=", "\ntries=", "\nproc=", "\nconfig=", "\nsetpriv="} {
			if strings.Contains(got, no) {
				t.Errorf("%s: the runner has %q:\n%s", way, no, got)
			}
		}
		if n := strings.Count(got, canary); n != 1 {
			t.Errorf("%s: the config is %d times in the runner's environment", way, n)
		}
		if got := b.read(t, "info"); !strings.Contains(got, `"Pool: linux\nTemplate: ubuntu 24.04\nContainer: `) {
			t.Errorf("%s: the job's log begins with %s", way, got)
		}
		until(t, "begun runs", func() bool { return strings.Contains(b.read(t, "begun"), "PWD=") })
		if got := b.read(t, "begun"); !strings.HasPrefix(got, "1001:121 60\n") || strings.Contains(got, canary) || strings.Contains(got, "http_proxy") {
			t.Errorf("%s: begun was told %q", way, got)
		}
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
		"one line":   {`[{"group":"dayfly template","detail":"Template: x@1"}]`, "x@1", "Pool: linux\nTemplate: x@1\nNode: pve1\nContainer: 20001 " + host},
		"many lines": {"[\n  {\n    \"group\": \"dayfly template\",\n    \"detail\": \"a [b] {c}\"\n  }\n]\n", "", facts},
		"empty":      {"[]\n", "", facts},
		"damaged":    {"{", "", facts},
		"hostile":    {"[]", `"x,{}]"`, facts},
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

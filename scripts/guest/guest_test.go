package guest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dayfly-ci/dayfly/test/root"
)

const variable = "ACTIONS_RUNNER_INPUT_JITCONFIG"

func TestScriptsPassShellcheck(t *testing.T) {
	if _, err := exec.LookPath("shellcheck"); err != nil {
		t.Skip("needs shellcheck")
	}
	out, err := exec.Command("shellcheck", append([]string{"--external-sources"}, shellScripts(t)...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// shellScripts are the files with a shell's name in their first line.
func shellScripts(t *testing.T) []string {
	t.Helper()
	var names []string
	err := fs.WalkDir(Files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := Files.ReadFile(path)
		first, _, _ := strings.Cut(string(text), "\n")
		if strings.HasSuffix(first, "sh") && strings.HasPrefix(first, "#") {
			names = append(names, path)
		}
		return err
	})
	if err != nil || len(names) < 9 {
		t.Fatalf("got %d scripts, %v", len(names), err)
	}
	return names
}

func TestUnitsAreValid(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("needs systemd-analyze")
	}
	r := guestRoot(t)
	r.Must("sed -e s/@USER@/root/ -e s/@LIFETIME@/60/ /guest/files/dayfly-runner.service >/etc/systemd/system/dayfly-runner.service")
	r.Must("cp /guest/files/dayfly-env.service /etc/systemd/system && chmod 644 /etc/systemd/system/dayfly-*")
	r.Must("mkdir -p /opt/actions-runner/bin /usr/lib/dayfly && cp /bin/true /opt/actions-runner/bin/Runner.Listener && cp /guest/files/* /usr/lib/dayfly && chmod +x /usr/lib/dayfly/*")
	out := r.Must("systemd-analyze verify --man=no /etc/systemd/system/dayfly-runner.service /etc/systemd/system/dayfly-env.service 2>&1")
	for line := range strings.Lines(out) {
		if strings.Contains(line, "dayfly") {
			t.Errorf("systemd-analyze verify: %s", line)
		}
	}
}

// guestRoot is a throw-away root with these files in /guest.
func guestRoot(t *testing.T) *root.Root {
	t.Helper()
	r := root.New(t)
	err := fs.WalkDir(Files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := Files.ReadFile(path)
		if err == nil {
			r.Write("/guest/"+path, string(text), 0o755)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// asInit runs a script as PID 1 of a new namespace, with an environment.
func asInit(t *testing.T, script string, env ...string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: a PID namespace has a PID 1 of its own")
	}
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "/bin/sh", "-c", script)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestConfigIsTakenOutOfTheEnvironment(t *testing.T) {
	run, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	jit := strings.Repeat("Q2FuYXJ5", 700) + "+/_-9=="
	out := asInit(t, `env -i DAYFLY_RUN=`+run+` PATH="$PATH" sh files/take-env; tr '\0' '\n' </proc/1/environ`,
		"BEFORE=1\n"+variable+"=no", variable+"="+jit, "AFTER=2")
	got, err := os.ReadFile(filepath.Join(run, "jit"))
	if err != nil || string(got) != variable+"="+jit+"\n" {
		t.Errorf("the file holds %d bytes, %v, want the variable; out: %s", len(got), err, out)
	}
	if info, err := os.Stat(filepath.Join(run, "jit")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
	if strings.Contains(out, "Q2FuYXJ5") || !strings.Contains(out, variable+"="+strings.Repeat("x", len(jit))+"\n") {
		t.Errorf("PID 1 still has the config in its memory: %.200s", out)
	}
	if !strings.Contains(out, "\nAFTER=2\n") || !strings.Contains(out, "BEFORE=1\n") {
		t.Errorf("other variables were touched: %.200s", out)
	}
}

// What the log of the job begins with comes the same way as from the root half:
// in the file of the config.
func TestFactsAreTakenOutOfTheEnvironment(t *testing.T) {
	run, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	asInit(t, `env -i DAYFLY_RUN=`+run+` PATH="$PATH" sh files/take-env`,
		"DAYFLY_NODE=pve-1.example", variable+"=Y29uZmln", "DAYFLY_POOL=ubuntu", "DAYFLY_TEMPLATE=ubuntu-24.04@2.335.1-1", "DAYFLY_VMID=20001",
		"DAYFLY_RUNNER=ubuntu-x7f", "DAYFLY_RUN_AS=root", "DAYFLY_NODE_OF=other", "A=1\nDAYFLY_POOL=forged", "PATH_TO=x")
	got, err := os.ReadFile(filepath.Join(run, "jit"))
	want := variable + "=Y29uZmln\nDAYFLY_NODE=pve-1.example\nDAYFLY_POOL=ubuntu\nDAYFLY_TEMPLATE=ubuntu-24.04@2.335.1-1\nDAYFLY_VMID=20001\nDAYFLY_RUNNER=ubuntu-x7f\n"
	if err != nil || string(got) != want {
		t.Errorf("the file holds %q, %v, want %q", got, err, want)
	}
}

// The pool's variables mean nothing to PID 1; in the file they have their names.
// Whoever takes one pair of quotes off reads what was meant.
func TestVariablesOfThePoolAreTakenOutOfTheEnvironment(t *testing.T) {
	run, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{
		"HTTP_PROXY": "http://user@10.20.0.5:3128/", "lower_case": "1", "A": "a", "NO_PROXY": "localhost, *.example.com;#=",
		"ODD": "it's [100 %] (good)!? {x} <y> & | ~^_*+-/=:,.;@#'", "_X9": "  inner  spaces",
	}
	env := []string{
		variable + "=Y29uZmln", "HTTPS_PROXY=of-the-container", "A=1\nDAYFLY_ENV_FORGED=x", "DAYFLY_ENV_QUOTE=a\"b", "DAYFLY_ENV_TICK=`id`", "DAYFLY_ENV_DOLLAR=$HOME",
		"DAYFLY_ENV_BACK=a\\b", "DAYFLY_ENV_LINES=a\nb", "DAYFLY_ENV_BYTE=a\x80", "DAYFLY_ENV_9=x", "DAYFLY_ENV_=x", "DAYFLY_ENV_A-B=x",
	}
	for name, value := range values {
		env = append(env, "DAYFLY_ENV_"+name+"="+value)
	}
	asInit(t, `env -i DAYFLY_RUN=`+run+` PATH="$PATH" sh files/take-env`, env...)
	got, err := os.ReadFile(filepath.Join(run, "jit"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(got), "\n"), "\n")
	if len(lines) != 1+len(values) || lines[0] != variable+"=Y29uZmln" {
		t.Errorf("the file holds %q", lines)
	}
	out, err := exec.Command("sh", "-c", `while IFS= read -r line; do value=${line#*=}; value=${value#\"}; printf '%s=%s\n' "${line%%=*}" "${value%\"}"; done <`+filepath.Join(run, "jit")).Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range values {
		if !slices.Contains(lines, name+`="`+value+`"`) || !strings.Contains("\n"+string(out), "\n"+name+"="+value+"\n") {
			t.Errorf("%s is not %q: %q, read as %q", name, value, lines, out)
		}
	}
}

func TestNoConfigInTheEnvironmentIsNoFailure(t *testing.T) {
	run := t.TempDir()
	if out := asInit(t, `DAYFLY_RUN=`+run+` sh files/take-env`, "OTHER=1"); out != "" {
		t.Errorf("said %q", out)
	}
	if left, _ := os.ReadDir(run); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestConfigThatIsNoneIsRefused(t *testing.T) {
	run := t.TempDir()
	out := asInit(t, `DAYFLY_RUN=`+run+` sh files/take-env; echo "code $?"`, variable+"=$(reboot); x y")
	if out != "the environment's JIT config is not base64: not used\ncode 1\n" {
		t.Errorf("said %q", out)
	}
	if left, _ := os.ReadDir(run); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// sh runs one of the files with its directories below dir.
func sh(t *testing.T, dir, file string, env ...string) (out string, code int) {
	t.Helper()
	name, args, _ := strings.Cut(file, " ")
	cmd := exec.Command("bash", append([]string{filepath.Join("files", name)}, strings.Fields(args)...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "DAYFLY_LIB=" + dir + "/lib", "DAYFLY_RUN=" + dir + "/run"}, env...)
	text, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// network runs the generator on a file of Proxmox's and returns what networkd
// is told.
func network(t *testing.T, interfaces string) (network string, ifupdown bool) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/interfaces", []byte(interfaces), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "files/network-generator", dir+"/normal", dir+"/early", dir+"/late")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "DAYFLY_INTERFACES=" + dir + "/interfaces", "DAYFLY_NETWORKS=" + dir + "/networks"}
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	_, err := os.Lstat(dir + "/early/sysinit.target.wants/systemd-networkd.service")
	files, _ := filepath.Glob(dir + "/networks/*")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		network += filepath.Base(f) + "\n" + string(text)
	}
	return network, err != nil
}

func TestNetworkIsWhatProxmoxWrote(t *testing.T) {
	const lo = "auto lo\niface lo inet loopback\niface lo inet6 loopback\n\nauto eth0\n"
	for name, c := range map[string]struct {
		text string
		has  []string
	}{
		"dhcp":      {lo + "iface eth0 inet dhcp\n", []string{"10-eth0.network", "DHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n", "RapidCommit=yes\nUseDomains=yes\nUseHostname=no\n"}},
		"static":    {lo + "iface eth0 inet static\n\taddress 10.0.0.7/24\n# --- BEGIN PVE ---\n\tgateway 10.0.0.1\n", []string{"Address=10.0.0.7/24\nGateway=10.0.0.1\n", "LinkLocalAddressing=no"}},
		"both":      {lo + "iface eth0 inet dhcp\n\niface eth0 inet6 auto\n", []string{"DHCP=ipv4\nIPv6AcceptRA=yes\n"}},
		"dhcp both": {lo + "iface eth0 inet dhcp\niface eth0 inet6 dhcp\n", []string{"DHCP=yes\nIPv6AcceptRA=yes\n"}},
		"static v6": {lo + "iface eth0 inet manual\niface eth0 inet6 static\n\taddress fd00::7/64\n", []string{"Address=fd00::7/64\n", "IPv6AcceptRA=no"}},
		"two":       {lo + "iface eth0 inet dhcp\nauto eth1\niface eth1 inet static\n\taddress 10.1.0.2/24\n", []string{"10-eth0.network", "10-eth1.network\n[Match]\nName=eth1\n"}},
	} {
		got, ifupdown := network(t, c.text)
		for _, want := range c.has {
			if !strings.Contains(got, want) || ifupdown {
				t.Errorf("%s: ifupdown %v, got\n%swant %q", name, ifupdown, got, want)
			}
		}
	}
	for name, text := range map[string]string{
		"bridge": lo + "iface eth0 inet dhcp\n\tbridge_ports none\n", "hook": lo + "iface eth0 inet static\n\taddress 10.0.0.7/24\n\tpost-up ip route add default via 10.1.1.1\n",
		"method": lo + "iface eth0 inet ppp\n",
	} {
		if got, ifupdown := network(t, text); got != "" || !ifupdown {
			t.Errorf("%s: ifupdown %v, got %s", name, ifupdown, got)
		}
	}
}

func TestHooksLeaveEvidence(t *testing.T) {
	dir := t.TempDir()
	for _, hook := range []string{"started", "completed"} {
		if out, code := sh(t, dir, "job-"+hook+".sh"); code != 0 || out != "" {
			t.Errorf("without a directory: %d, %q", code, out)
		}
	}
	if err := os.MkdirAll(dir+"/run/job", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, hook := range []string{"started", "completed"} {
		if out, code := sh(t, dir, "job-"+hook+".sh"); code != 0 {
			t.Errorf("%d, %q", code, out)
		}
		if got, err := os.ReadFile(dir + "/run/job/" + hook); err != nil || !strings.HasPrefix(string(got), "20") {
			t.Errorf("%s: got %q, %v", hook, got, err)
		}
	}
}

func TestStorageDriverIsChosenByMounts(t *testing.T) {
	r := guestRoot(t)
	r.Must("mkdir -p /srv/memory && mount -t tmpfs memory /srv/memory && mkdir -p /srv/overlay")
	// What this machine has of fuse must not matter.
	r.Must("rm -f /usr/bin/fuse-overlayfs; mount -t tmpfs empty /dev; mknod /dev/null c 1 3")
	for name, c := range map[string]struct {
		command, want string
		code          int
	}{
		"overlays work":           {"choose /srv/memory/docker", "overlay2\n", 0},
		"overlay on overlay":      {"choose /srv/overlay/docker", "fuse-overlayfs: not installed\n", 1},
		"asked for, works":        {"try overlay2 /srv/memory/docker", "", 0},
		"asked for, does not":     {"try overlay2 /srv/overlay/docker", "overlay2: mount: ", 1},
		"vfs is never chosen":     {"try vfs /srv/overlay/docker", "", 0},
		"unknown":                 {"try zfs /srv/memory/docker", "zfs: not a storage driver that can be tried\n", 1},
		"fuse without its device": {"try fuse-overlayfs /srv/memory/docker", "fuse-overlayfs: not installed\n", 1},
	} {
		out, code := r.Run("sh /guest/files/storage-driver " + c.command)
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s: got %d, %q, want %d, %q", name, code, out, c.code, c.want)
		}
	}
	r.Stub("fuse-overlayfs", "exit 0")
	if out, code := r.Run("sh /guest/files/storage-driver try fuse-overlayfs /srv/memory/docker"); code != 1 || out != "fuse-overlayfs: /dev/fuse cannot be opened\n" {
		t.Errorf("no device: got %d, %q", code, out)
	}
	if left := r.Must("ls -A /srv/memory/docker /srv/overlay/docker | grep dayfly; grep dayfly-probe /proc/mounts; true"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

func TestCloneOnOtherStorageGetsAnotherDriver(t *testing.T) {
	r := guestRoot(t)
	r.Must("rm -f /usr/bin/fuse-overlayfs; mkdir -p /srv/memory /srv/overlay && mount -t tmpfs memory /srv/memory")
	config := func(driver, data string) string {
		return `{"storage-driver":"` + driver + `","data-root":"` + data + `","log-driver":"json-file"}`
	}
	for name, c := range map[string]struct {
		before, after string
		code          int
	}{
		"works":      {config("overlay2", "/srv/memory"), config("overlay2", "/srv/memory"), 0},
		"vfs stays":  {config("vfs", "/srv/memory"), config("vfs", "/srv/memory"), 0},
		"changed":    {config("fuse-overlayfs", "/srv/memory"), config("overlay2", "/srv/memory"), 0},
		"none works": {config("overlay2", "/srv/overlay"), config("overlay2", "/srv/overlay"), 1},
		"no driver":  {`{}`, `{}`, 0},
	} {
		r.Write("/etc/docker/daemon.json", c.before, 0o644)
		out, code := r.Run("sh /guest/files/storage-driver settle")
		if got := r.Must("jq -c . /etc/docker/daemon.json"); got != c.after || code != c.code {
			t.Errorf("%s: got %d, %s, want %d, %s; said %s", name, code, got, c.code, c.after, out)
		}
	}
}

// TestSmokeBootMissesWhatTheTemplateWasMadeWith: a clone without the tun device
// that its template had fails, one of a template that never had it does not.
func TestSmokeBootMissesWhatTheTemplateWasMadeWith(t *testing.T) {
	r := guestRoot(t)
	r.Must("mount -t tmpfs empty /dev && mknod -m 666 /dev/null c 1 3 && ln -s /proc/self/fd /dev/fd && mkdir -p /dev/net /run/dayfly /opt/actions-runner/bin")
	r.Must("echo http://github.test/ >/run/dayfly/smoke")
	r.Stub("ip", "exit 0")
	r.Stub("curl", "exit 0")
	r.Stub("setpriv", "echo 2.335.1")
	for name, c := range map[string]struct{ fact, make, bits, says string }{
		"never had it":     {`""`, "true", "0", "/dev/net/tun: ok\n"},
		"older template":   {"null", "true", "0", "/dev/net/tun: ok\n"},
		"has it":           {`"yes"`, "touch /dev/net/tun", "0", "/dev/net/tun: ok\n"},
		"lost it":          {`"yes"`, "true", "4", "/dev/net/tun: failed: the template was made with it, and it is not there\n"},
		"cannot be opened": {`"yes"`, "mkdir /dev/net/tun", "4", "/dev/net/tun: failed: "},
		"came and is shut": {`""`, "mkdir /dev/net/tun", "4", "/dev/net/tun: failed: "},
	} {
		r.Write("/etc/dayfly/template.json", `{"runner":"2.335.1","tun":`+c.fact+`}`, 0o644)
		out := r.Must("rm -rf /dev/net/tun; " + c.make + "; bash /guest/files/smoke")
		calls := r.Calls()
		if want := "ip address add 127.83.77." + c.bits + "/32 dev lo"; !slices.Contains(calls, want) || !strings.Contains(out+"\n", c.says) {
			t.Errorf("%s: it says %q by %q, want %q and %q", name, out, calls, c.says, want)
		}
	}
}

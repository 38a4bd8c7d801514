package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/dayfly-ci/dayfly/internal/host"
)

// readUnit parses a unit: section and name → values.
func readUnit(t *testing.T, name string) map[string][]string {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "scripts", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	options, err := unit.DeserializeOptions(f)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, o := range options {
		all[o.Section+" "+o.Name] = append(all[o.Section+" "+o.Name], o.Value)
	}
	return all
}

func TestUnitRunsCommandsThatExist(t *testing.T) {
	options := readUnit(t, "dayfly.service")
	root := (&program{}).command()
	for name, want := range map[string]string{"Service ExecStart": "run", "Service ExecReload": "sync"} {
		if got := options[name]; len(got) != 1 || got[0] != "/usr/bin/dayfly "+want {
			t.Errorf("%s is %q, want /usr/bin/dayfly %s", name, got, want)
		}
		if cmd, _, err := root.Find([]string{want}); err != nil || cmd.Name() != want {
			t.Errorf("%s: there is no command %s", name, want)
		}
	}
	for name, want := range map[string]string{
		"Service Type": "notify", "Service User": "dayfly", "Service StateDirectory": "dayfly", // as defaults assumes
		"Service RuntimeDirectory": "dayfly", "Install WantedBy": "multi-user.target",
	} {
		if got := options[name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q, want %s", name, got, want)
		}
	}
	if len(options["Service WatchdogSec"]) != 1 {
		t.Error("the unit has no watchdog")
	}
}

// example is the configuration that goes with the unit.
func example(t *testing.T) (*config, string) {
	t.Helper()
	t.Setenv("STATE_DIRECTORY", "")
	t.Setenv("RUNTIME_DIRECTORY", "")
	src, err := os.ReadFile(filepath.Join("..", "scripts", "dayfly.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	c, diags := parseConfig("/etc/dayfly/dayfly.hcl", src)
	if diags.list.HasErrors() {
		t.Fatal(diags.list)
	}
	return c, string(src)
}

func TestUnitGivesTheCredentialsThatTheExampleNames(t *testing.T) {
	var given []string
	for _, value := range readUnit(t, "dayfly.service")["Service LoadCredential"] {
		name, path, _ := strings.Cut(value, ":")
		if path != "/etc/dayfly/credentials/"+name {
			t.Errorf("credential %s comes from %s", name, path)
		}
		given = append(given, name)
	}
	c, _ := example(t)
	want := []string{c.Proxmox.TokenCredential, c.GitHub.KeyCredential, c.GitHub.WebhookSecretCredential}
	if !slices.Equal(given, want) {
		t.Errorf("the unit gives %q, the example names %q", given, want)
	}
}

func TestSocketIsTheListeningAddress(t *testing.T) {
	c, _ := example(t)
	if got := readUnit(t, "dayfly.socket")["Socket ListenStream"]; !slices.Equal(got, []string{c.Daemon.Listen}) {
		t.Errorf("the socket listens on %q, the daemon on %s", got, c.Daemon.Listen)
	}
}

// TestExampleNamesEveryKey also compares the commented-out defaults of the
// example with the real ones.
func TestExampleNamesEveryKey(t *testing.T) {
	c, src := example(t)
	for _, block := range []any{c.Proxmox, c.GitHub, c.Pools, *c.Pools.Git, *c.Daemon, *c.Host, hostNode{}} {
		for field := range reflect.TypeOf(block).Fields() {
			name, kind, _ := strings.Cut(field.Tag.Get("hcl"), ",")
			if name != "" && kind != "block" && !regexp.MustCompile(`\b`+name+`\b`).MatchString(src) {
				t.Errorf("the example does not name %s of %T", name, block)
			}
		}
	}
	for name, got := range map[string]string{
		"listen": c.Daemon.Listen, "admin_socket": c.Daemon.AdminSocket, "state_dir": c.Daemon.StateDir,
		"log_level": strings.ToLower(c.Daemon.Level.String()), "socket": c.Host.Socket, "user": c.Host.User,
		"pve_dir": host.Node().PVE, "cgroup_dir": host.Node().Cgroup,
	} {
		if want := regexp.MustCompile(`  # ` + name + ` *= "([^"]*)"`).FindStringSubmatch(src); want == nil || want[1] != got {
			t.Errorf("the example says %s is %q, it is %q", name, want, got)
		}
	}
	if got := c.Pools.Git.Every.String(); got != "1m0s" {
		t.Errorf("interval is %s, the example says 1m", got)
	}
}

// TestRootHalfsUnitFitsItsProgram compares the unit and the socket with what
// the program takes for granted.
func TestRootHalfsUnitFitsItsProgram(t *testing.T) {
	c, _ := example(t)
	service, socket := readUnit(t, "dayfly-host.service"), readUnit(t, "dayfly-host.socket")
	for name, got := range map[string][]string{
		"/usr/bin/dayfly host": service["Service ExecStart"], "dayfly-host.socket": service["Unit Requires"],
		c.Host.Socket: socket["Socket ListenStream"], c.Host.User: socket["Socket SocketGroup"], "0660": socket["Socket SocketMode"],
		"instance.key:/var/lib/dayfly/instance.key":                              service["Service LoadCredential"],
		"CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_SETUID CAP_SETGID CAP_NET_ADMIN": service["Service CapabilityBoundingSet"],
	} {
		if !slices.Equal(got, []string{name}) {
			t.Errorf("got %q, want %q", got, name)
		}
	}
	if cmd, _, err := (&program{}).command().Find([]string{"host"}); err != nil || cmd.Name() != "host" {
		t.Error("there is no command host")
	}
}

// TestUnitIsConfined asks systemd itself. The program it starts is swapped for
// one that exists, or systemd would not load the unit. The root half's exposure
// is what its five capabilities, users and network cost.
func TestUnitIsConfined(t *testing.T) {
	for name, most := range map[string]int{"dayfly.service": 15, "dayfly-host.service": 45} {
		t.Run(name, func(t *testing.T) { confined(t, name, most) })
	}
}

func confined(t *testing.T, name string, most int) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed: the unit's exposure is not measured")
	}
	src, err := os.ReadFile(filepath.Join("..", "scripts", name))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	src = regexp.MustCompile(`/usr/bin/dayfly \w+`).ReplaceAll(src, []byte("/bin/true"))
	if err := os.WriteFile(path, src, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+strconv.Itoa(most), path).CombinedOutput()
	if err != nil {
		t.Errorf("exposure is above %d tenths: %v\n%s", most, err, out)
	}
	if !strings.Contains(string(out), "Overall exposure level") {
		t.Errorf("no exposure level in\n%s", out)
	}
}

package runner

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/test/root"
)

const version = "2.340.0"

// all is where the provisioner leaves things.
var all = []string{"/etc", "/opt", "/usr/lib/dayfly", "/var/lib/dayfly", "/var/tmp", "/tmp"}

// served serves a tarball, and gives the configuration that fetches it.
func served(t *testing.T, data []byte, sum string) map[string]any {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(data) }))
	t.Cleanup(server.Close)
	return map[string]any{"version": version, "sha256": sum, "url": server.URL + "/runner.tar.gz"}
}

// One guest is provisioned three times: each run takes a while.
func TestGuestBecomesARunnerAndStaysOne(t *testing.T) {
	g := newGuest(t)
	data, sum := tarball(t, version)
	conf := served(t, data, sum)
	becomes(t, g, conf, sum)
	again(t, g, conf)
	otherwise(t, g, conf)
}

func becomes(t *testing.T, g *root.Root, conf map[string]any, sum string) {
	t.Helper()
	conf["docker"] = map[string]any{"registry_mirror": "https://mirror.example.org"}
	said, err := provision(t, g, conf)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for command, want := range map[string]string{
		"cat /opt/actions-runner/.dayfly-tarball":                                                     version + " " + sum,
		"stat -c %U /opt/actions-runner /opt/actions-runner/bin/Runner.Listener":                      "runner\nrunner",
		"id -u runner; id -nG runner":                                                                 "1001\nrunner docker",
		"passwd -S root | cut -d' ' -f2; passwd -S runner | cut -d' ' -f2":                            "L\nL",
		"cat /etc/sudoers.d/dayfly-runner; stat -c %a /etc/sudoers.d/dayfly-runner":                   "runner ALL=(ALL) NOPASSWD:ALL\n440",
		`jq -c . /etc/docker/daemon.json`:                                                             `{"storage-driver":"overlay2","log-driver":"json-file","log-opts":{"max-size":"10m","max-file":"3"},"registry-mirrors":["https://mirror.example.org"]}`,
		"jq -c '[.contract,.docker,.storage_driver,.runner,.runner_sha256]' " + factsPath:             `["` + fmt.Sprint(proxmox.GuestContract) + `","28.5.1","overlay2","` + version + `","` + sum + `"]`,
		"[ \"$(jq -r .tun " + factsPath + ")\" = \"$([ ! -e /dev/net/tun ] || echo yes)\" ]; echo $?": "0",
		"jq -r '.[0].group, (.[0].detail | split(\"\\n\")[0])' /opt/actions-runner/.setup_info":       "dayfly template\nTemplate: ubuntu-24.04@2.340.0-1",
		"grep -c HOOK /opt/actions-runner/.env":                                                       "2",
		"grep '^ExecStart=' /etc/systemd/system/dayfly-runner.service":                                "ExecStart=/usr/lib/dayfly/begin runner 86400 /opt/actions-runner/bin/Runner.Listener run",
		"readlink /etc/systemd/system/ldconfig.service":                                               "/dev/null",
		"ls -A /var/tmp /tmp | grep dayfly; true":                                                     "",
	} {
		if got := g.Must(command); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", command, got, want)
		}
	}
	calls := g.Calls()
	for _, want := range []string{
		"systemctl enable dayfly-env.service dayfly-runner.service", "systemctl enable docker.socket", "systemctl disable docker.service containerd.service",
	} {
		if !slices.Contains(calls, want) {
			t.Errorf("%q was not called, but %q", want, calls)
		}
	}
}

var noDocker = map[string]any{"source": "none"}

const factsPath = "/etc/dayfly/template.json"

// again runs it with the same configuration: nothing may change.
func again(t *testing.T, g *root.Root, conf map[string]any) {
	t.Helper()
	g.Calls()
	before := g.Tree(all...)
	conf["url"] = "http://127.0.0.1:1/nothing" // what is there is not fetched again
	if said, err := provision(t, g, conf); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if diff := cmp.Diff(before, g.Tree(all...)); diff != "" {
		t.Errorf("the second run changed files (-before +after)\n%s", diff)
	}
	for _, call := range g.Calls() {
		if strings.Contains(call, "apt-get") && strings.Contains(call, " install ") {
			t.Errorf("the second run called %q", call)
		}
	}
}

// otherwise runs it with everything switched off that can be: what was
// switched on is taken back.
func otherwise(t *testing.T, g *root.Root, conf map[string]any) {
	t.Helper()
	g.Write("/etc/docker/daemon.json", `{"insecure-registries":["10.0.0.5"],"features":{"containerd-snapshotter":true}}`, 0o644)
	conf["sudo"], conf["mask_units"], conf["lifetime"] = "false", "false", "6h"
	conf["docker"] = map[string]any{"storage_driver": "vfs", "start": "boot", "data_root": "/srv/docker"}
	if said, err := provision(t, g, conf); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for command, want := range map[string]string{
		"ls /etc/sudoers.d | grep dayfly; true":                                   "",
		"find /etc/systemd/system -lname /dev/null -name 'ld*'":                   "",
		"jq -c . /etc/docker/daemon.json":                                         `{"insecure-registries":["10.0.0.5"],"storage-driver":"vfs","log-driver":"json-file","log-opts":{"max-size":"10m","max-file":"3"},"data-root":"/srv/docker"}`,
		"grep -o 'begin runner [0-9]*' /etc/systemd/system/dayfly-runner.service": "begin runner 21600",
	} {
		if got := g.Must(command); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", command, got, want)
		}
	}
	if calls := g.Calls(); !slices.Contains(calls, "systemctl enable docker.service containerd.service") {
		t.Errorf("dockerd does not start at boot: %q", calls)
	}
}

func TestTarballIsRefusedAndLeavesNothing(t *testing.T) {
	good, sum := tarball(t, version)
	other, otherSum := tarball(t, "2.1.0")
	junk := []byte("<html>not a tarball</html>")
	g := newGuest(t)
	g.Stub("curl", `exec /usr/bin/curl --retry 0 "$@" --retry 0`)
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		sum     string
		want    string
	}{
		"wrong checksum": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(other) }, sum,
			"install runner: the runner's tarball has sha256 " + otherSum + ", want " + sum},
		"truncated": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write(good)
		}, sum, "install runner: download runner from http://"},
		"not found":     {http.NotFound, sum, "404"},
		"wrong version": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(other) }, otherSum, "the tarball holds runner 2.1.0, want " + version},
		"no tarball":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(junk) }, digest(junk), "install runner: unpack runner: "},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(c.handler)
			t.Cleanup(server.Close)
			_, err := provision(t, g, map[string]any{"version": version, "sha256": c.sum, "url": server.URL + "/r.tar.gz", "docker": noDocker})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if left := g.Must("ls -A /opt /var/tmp | grep -i 'runner\\|dayfly'; true"); left != "" {
				t.Errorf("left in the guest: %s", left)
			}
		})
	}
}

func TestLocalTarballIsCheckedBeforeItIsSent(t *testing.T) {
	data, sum := tarball(t, version)
	file := filepath.Join(t.TempDir(), "r.tar.gz")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGuest(t)
	if said, err := provision(t, g, map[string]any{"version": version, "sha256": sum, "file": file, "docker": noDocker}); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if got := g.Must("cat /opt/actions-runner/.dayfly-tarball"); got != version+" "+sum {
		t.Errorf("installed %q", got)
	}
	p := &Provisioner{}
	if err := p.Prepare(map[string]any{"version": version, "sha256": strings.Repeat("0", 64), "file": file}); err != nil {
		t.Fatal(err)
	}
	err := p.Provision(t.Context(), &transcript{}, nil, nil) // no communicator: nothing may be sent
	if err == nil || !strings.Contains(err.Error(), "has sha256 "+sum+", want 000") {
		t.Errorf("got %v, want a mismatch", err)
	}
}

// All happen to one guest, in any order: what a failed run has done is in no
// later one's way.
func TestFailuresAreOneMessage(t *testing.T) {
	g := newGuest(t)
	data, sum := tarball(t, version)
	for name, c := range map[string]struct {
		stub, script string
		conf         map[string]any
		want         string
	}{
		"package lists": {"apt-get", "echo 'Err:1 http://x'; echo 'E: The repository is not signed.' >&2; exit 100", map[string]any{"packages": []string{"yyy"}},
			"prepare guest: fetch package lists: E: The repository is not signed."},
		"no package": {"apt-get", `case " $* " in *" install "*) echo 'E: Unable to locate package zzz' >&2; exit 100;; esac`, map[string]any{"packages": []string{"zzz"}},
			"E: Unable to locate package zzz"},
		"dockerd": {"systemctl", `[ "$1" != restart ]`, nil, `install Docker: dockerd does not start: level=error msg="no luck today"`},
		"driver ignored": {"docker", "[ $1 != info ] || echo overlayfs", nil,
			"install Docker: Docker uses the storage driver overlayfs, not overlay2 as /etc/docker/daemon.json says"},
		"container does not run": {"docker", "case $1 in info) echo overlay2;; import) cat >/dev/null;; run) echo 'mount overlay: invalid argument' >&2; exit 125;; esac", nil,
			"install Docker: a container does not run on the storage driver overlay2: mount overlay: invalid argument"},
		"layer lost": {"docker", "case $1 in info) echo overlay2;; import) cat >/dev/null;; run) case \"$*\" in *upper*) echo old;; esac;; esac", nil,
			"install Docker: a container does not run on the storage driver overlay2: old"},
		"clock": {"date", "echo 1000", map[string]any{"docker": noDocker}, "s off the clock of the machine that runs Packer (hint: a container has its node's clock"},
		"no driver": {"fuse-overlayfs", "exit 1", map[string]any{"docker": map[string]any{"data_root": "/var/lib/onoverlay"}},
			"install Docker: no Docker storage driver works on /var/lib/onoverlay (overlayfs): overlay2: "},
		"systemd": {"systemctl", `[ "$1 $2" != "enable dayfly-env.service" ] || { echo "Failed to enable unit: no bus" >&2; exit 1; }`, map[string]any{"docker": noDocker},
			"set up boot: enable the runner's units: Failed to enable unit: no bus"},
	} {
		t.Run(name, func(t *testing.T) {
			g.Stub(c.stub, c.script)
			defer unstub(g, c.stub)
			conf := served(t, data, sum)
			for k, v := range c.conf {
				conf[k] = v
			}
			_, err := provision(t, g, conf)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q in one line", err, c.want)
			}
			if left := g.Must("ls -A /var/tmp; true"); left != "" {
				t.Errorf("left in the guest: %s", left)
			}
		})
	}
}

// silent is a guest that never answers.
type silent struct{ packersdk.Communicator }

func (silent) Start(context.Context, *packersdk.RemoteCmd) error { return nil }

func TestCancelEndsAtOnce(t *testing.T) {
	p := &Provisioner{}
	if err := p.Prepare(map[string]any{}); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if err := p.Provision(ctx, &transcript{}, silent{}, nil); !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
}

// gone is a guest whose connection breaks.
type gone struct{ packersdk.Communicator }

func (gone) Start(_ context.Context, rc *packersdk.RemoteCmd) error {
	rc.SetExited(packersdk.CmdDisconnect)
	return nil
}

func TestLostConnectionIsSaid(t *testing.T) {
	p := &Provisioner{}
	if err := p.Prepare(map[string]any{}); err != nil {
		t.Fatal(err)
	}
	err := p.Provision(t.Context(), &transcript{}, gone{}, nil)
	if !errors.Is(err, errLost) {
		t.Errorf("got %v, want %v", err, errLost)
	}
}

func TestAllConfigurationErrorsAtOnce(t *testing.T) {
	err := (&Provisioner{}).Prepare(map[string]any{
		"version": "newest", "arch": "vax", "sha256": "12", "url": "https://user:secret@x/", "file": "/does/not/exist",
		"user": "root", "packages": []string{"a; rm -rf /"}, "keep_units": []string{"a b"}, "lifetime": "1s", "step_timeout": "-1s",
		"docker": map[string]any{"source": "snap", "storage_driver": "zfs", "start": "never", "version": "1", "data_root": "relative",
			"registry_mirror": "x", "log_max_size": "lots", "log_max_files": -1, "repository": "ftp://x", "repository_key_sha256": "x"},
	})
	for _, field := range []string{
		"version", "arch", "sha256", "url", "file", "user", "packages", "keep_units", "lifetime", "step_timeout", "docker.source",
		"docker.storage_driver", "docker.start", "docker.version", "docker.data_root", "docker.registry_mirror", "docker.log_max_size",
		"docker.log_max_files", "docker.repository", "docker.repository_key_sha256",
	} {
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+field+": ") {
			t.Errorf("no error about %s in\n%v", field, err)
		}
	}
}

func TestUnknownVersionNeedsAPin(t *testing.T) {
	err := (&Provisioner{}).Prepare(map[string]any{"version": "2.999.0"})
	if err == nil || !strings.Contains(err.Error(), "dayfly-runner-release finds it") {
		t.Errorf("got %v, want a hint at the data source", err)
	}
}

func TestParametersAreQuoted(t *testing.T) {
	c := Config{Packages: []string{"it's", "$(reboot)"}, Lifetime: time.Hour}
	got := c.params("a@b", time.Unix(7, 0))
	for _, want := range []string{`DAYFLY_PACKAGES='it'\''s $(reboot)'`, "DAYFLY_LIFETIME='3600'", "DAYFLY_NOW='7'"} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

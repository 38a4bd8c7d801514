package prune

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/test/schema"
)

const family = "ubuntu-24.04"

// artifact is that of a build, as it arrives from another process.
type artifact struct{ packersdk.Artifact }

func (*artifact) Id() string { return "pve:ubuntu-24.04@9#9009" }
func (*artifact) State(string) any {
	return map[any]any{"family": family, "version": "9"}
}

// lab is a simulated Proxmox with templates, and the configuration of a
// prune of it.
type lab struct {
	*testing.T
	sim  *pve.Cluster
	conf map[string]any

	mu     sync.Mutex
	before func(*http.Request) // called before a request
}

func newLab(t *testing.T) *lab {
	t.Helper()
	w := &lab{T: t, sim: pve.New(pve.Config{Timing: pve.Timing{AuthDelay: -1}})}
	pve.Lab(w.sim)
	token := pve.LabBuilder(w.sim)
	id, secret, _ := strings.Cut(token, "=")
	w.sim.AddStorage(pve.Storage{ID: "thin", Type: "lvmthin"})
	w.sim.SetACL("/storage/thin", "DayflyUpload", true, "packer@pve", id)
	w.sim.AddRole("DayflyPrune", "VM.Audit", "Pool.Audit")
	w.sim.SetACL("/pool/"+pve.LabRunners, "DayflyPrune", true, "packer@pve", id)
	sent := &schema.Recorder{}
	server := httptest.NewServer(sent.Watch(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		before := w.before
		w.mu.Unlock()
		if before != nil {
			before(r)
		}
		w.sim.ServeHTTP(rw, r)
	})))
	t.Cleanup(func() {
		server.Close()
		if schema.Available() && sent.Sent() {
			sent.Check(t)
		}
	})
	for _, name := range []string{"PROXMOX_URL", "PROXMOX_USERNAME", "PROXMOX_PASSWORD", "PROXMOX_TOKEN", "GITHUB_TOKEN", "DAYFLY_GIT_TOKEN"} {
		t.Setenv(name, "")
	}
	w.conf = map[string]any{"proxmox_url": server.URL, "username": id, "token": secret, "runner_pool": pve.LabRunners, "keep_releases": 2}
	w.pools("")
	return w
}

// pools writes pool files in which one pool pins a version, or follows the
// newest, and keeps no older one.
func (w *lab) pools(version string) {
	w.Helper()
	w.keeps(version, 0)
}

// keeps has the pool keep older versions.
func (w *lab) keeps(version string, n int) {
	w.Helper()
	if version != "" {
		version = "version = \"" + version + "\"\n"
	}
	text := "dayfly {\n  schema = 1\n}\ntemplate \"t\" {\n  family = \"" + family + "\"\n" + version + fmt.Sprintf("keep = %d\n", n) +
		"}\npool \"p\" {\n  labels = [\"x\"]\n  template = template.t\n  github {\n    org = \"acme\"\n  }\n  scale {\n    max = 1\n  }\n}\n"
	dir := w.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.hcl"), []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
	w.conf["pools_directory"] = dir
}

func info(version, state string, replica int) proxmox.TemplateInfo {
	return proxmox.TemplateInfo{Schema: 1, Family: family, Version: version, State: state, Replica: replica, BuiltAt: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
}

// add adds a template of version vmid-9000.
func (w *lab) add(vmid int, edit func(*pve.Template)) {
	i := info(fmt.Sprint(vmid-9000), "ready", 0)
	t := pve.Template{VMID: vmid, ResourcePool: pve.LabTemplates, Storage: pve.LabStorage,
		Config: map[string]string{"description": i.Describe(), "tags": "dayfly-state.ready;dayfly-template;mine"}}
	if edit != nil {
		edit(&t)
	}
	w.sim.AddTemplate(t)
}

// ready adds templates of the versions from first to last.
func (w *lab) ready(first, last int) {
	for v := first; v <= last; v++ {
		w.add(9000+v, nil)
	}
}

func (w *lab) prune() (said string, err error) {
	w.Helper()
	p := &PostProcessor{}
	if err := p.Configure(w.conf); err != nil {
		w.Fatal(err)
	}
	var out bytes.Buffer
	a := &artifact{}
	got, keep, force, err := p.PostProcess(w.Context(), &packersdk.BasicUi{Reader: strings.NewReader(""), Writer: &out, ErrorWriter: &out}, a)
	if got != packersdk.Artifact(a) || !keep || !force {
		w.Errorf("the artifact is not kept: %v, %v, %v", got, keep, force)
	}
	return out.String(), err
}

// left are the VMIDs of the templates that are there.
func (w *lab) left() []int {
	var out []int
	for _, k := range w.sim.Containers() {
		if k.Config["template"] == "1" {
			out = append(out, k.VMID)
		}
	}
	slices.Sort(out)
	return out
}

func (w *lab) want(said string, err error, left ...int) {
	w.Helper()
	if got := w.left(); err != nil || !slices.Equal(got, left) {
		w.Errorf("left %v, %v, want %v\n%s", got, err, left, said)
	}
}

func TestOldVersionsAreRemoved(t *testing.T) {
	w := newLab(t)
	w.ready(1, 10)
	said, err := w.prune()
	w.want(said, err, 9009, 9010)
	for _, line := range []string{"keep ubuntu-24.04@10: one of the newest 2", "keep ubuntu-24.04@9: was just built", "removed ubuntu-24.04@1, 9001 on node pve"} {
		if !strings.Contains(said, line) {
			t.Errorf("not said: %q in\n%s", line, said)
		}
	}
	said, err = w.prune()
	w.want(said, err, 9009, 9010)
}

func TestDryRunRemovesNothing(t *testing.T) {
	w := newLab(t)
	w.ready(1, 3)
	w.conf["dry_run"] = true
	said, err := w.prune()
	w.want(said, err, 9001, 9002, 9003)
	if !strings.Contains(said, "would remove ubuntu-24.04@1, 9001 on node pve") {
		t.Errorf("said %s", said)
	}
}

func TestPinnedVersionStays(t *testing.T) {
	w := newLab(t)
	w.ready(1, 5)
	w.pools("2")
	said, err := w.prune()
	w.want(said, err, 9002, 9004, 9005)
	if !strings.Contains(said, "keep ubuntu-24.04@2: pinned by pool p") {
		t.Errorf("said %s", said)
	}
}

// A pool that follows a range rolls to the newest of it, which need not be one
// of the newest of all.
func TestVersionsThatAPoolFollowsStay(t *testing.T) {
	for _, test := range []struct {
		constraint string
		keep       int
		left       []int
		said       string
	}{
		{"< 5", 0, []int{9004, 9009, 9010}, "keep ubuntu-24.04@4: the newest on node pve that pool p follows"},
		{"< 5", 2, []int{9002, 9003, 9004, 9009, 9010}, "keep ubuntu-24.04@2: one of 2 older ones that pool p keeps"},
		{">= 2, < 7, != 6", 1, []int{9004, 9005, 9009, 9010}, "keep ubuntu-24.04@5: the newest on node pve that pool p follows"},
		{"", 3, []int{9007, 9008, 9009, 9010}, "keep ubuntu-24.04@7: one of 3 older ones that pool p keeps"},
		{"4", 1, []int{9003, 9004, 9009, 9010}, "keep ubuntu-24.04@4: pinned by pool p"},
		{"> 20", 3, []int{9009, 9010}, "keep ubuntu-24.04@10: one of the newest 2"},
	} {
		t.Run(test.constraint+" and "+fmt.Sprint(test.keep), func(t *testing.T) {
			w := newLab(t)
			w.ready(1, 10)
			w.keeps(test.constraint, test.keep)
			said, err := w.prune()
			w.want(said, err, test.left...)
			if !strings.Contains(said, test.said) {
				t.Errorf("not said: %q in\n%s", test.said, said)
			}
		})
	}
}

// Each node has versions of its own, and a pool may have to do with what one of
// them has.
func TestVersionThatAPoolFollowsStaysOnEachNode(t *testing.T) {
	all := []fleet.Pool{{Name: "p", Template: fleet.Ref{Family: family}, Follow: fleet.Constraint{{Op: "<", Version: "5"}}}}
	old := world{family: family, pools: all, built: []proxmox.Built{
		built("pve", "6"), built("pve", "4"), built("pve", "3"), built("two", "6"), built("two", "2"), built("two", "1"),
	}}
	for version, want := range map[string]bool{"6": true, "4": true, "3": false, "2": true, "1": false} {
		if why := old.kept(version, 1); (why != "") != want {
			t.Errorf("version %s: %q, want it kept: %v", version, why, want)
		}
	}
}

func built(node, version string) proxmox.Built {
	return proxmox.Built{Node: node, Template: true, Tags: []string{proxmox.ReadyTag}, Info: info(version, "ready", 0)}
}

// runner is a container of the daemon, cloned from a version.
func runner(version string) map[string]string {
	m := proxmox.Manifest{Schema: 1, Name: "r", Pool: "p", Template: fleet.Ref{Family: family, Version: version}, VMID: 20000}
	return map[string]string{"hostname": "r", "description": m.Sign(fleet.NewSecret("somebody else's key"))}
}

func TestVersionWithClonesStays(t *testing.T) {
	for name, clone := range map[string]pve.Container{
		"runner":       {VMID: 20000, ResourcePool: pve.LabRunners, Storage: pve.LabStorage, Config: runner("2")},
		"linked clone": {VMID: 20000, ResourcePool: pve.LabRunners, Config: map[string]string{"rootfs": pve.LabStorage + ":basevol-9002-disk-0/subvol-20000-disk-0,size=4G"}},
		"by hand on LVM": {VMID: 20000, ResourcePool: pve.LabRunners, Storage: "thin",
			Config: map[string]string{"description": info("2", "ready", 0).Describe(), "tags": "dayfly-template;dayfly-state.ready"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newLab(t)
			w.ready(1, 5)
			w.sim.AddContainer(clone)
			said, err := w.prune()
			w.want(said, err, 9002, 9004, 9005)
			if !strings.Contains(said, "keep ubuntu-24.04@2: has 1 clones") {
				t.Errorf("said %s", said)
			}
		})
	}
}

func TestCloneThatProxmoxAloneKnowsOf(t *testing.T) {
	w := newLab(t)
	w.ready(1, 4)
	// In no resource pool that the token sees.
	w.sim.AddContainer(pve.Container{VMID: 300, Config: map[string]string{"rootfs": pve.LabStorage + ":basevol-9001-disk-0/subvol-300-disk-0,size=4G"}})
	said, err := w.prune()
	w.want(said, err, 9001, 9003, 9004)
	if k, _ := w.sim.Container(9001); !strings.Contains(k.Config["tags"], proxmox.ReadyTag) || !strings.Contains(said, "Proxmox says that clones use it") {
		t.Errorf("tags %q, said %s, want a template that is ready as before", k.Config["tags"], said)
	}
}

func TestCloneMadeWhileItIsRemoved(t *testing.T) {
	w := newLab(t)
	w.add(9001, func(t *pve.Template) { t.Storage = "thin" }) // where Proxmox would let it go
	w.ready(2, 3)
	before, _ := w.sim.Container(9001)
	var once sync.Once
	w.before = func(r *http.Request) {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/9001/config") {
			once.Do(func() {
				w.sim.AddContainer(pve.Container{VMID: 20000, ResourcePool: pve.LabRunners, Storage: "thin", Config: runner("1")})
			})
		}
	}
	said, err := w.prune()
	w.want(said, err, 9001, 9002, 9003)
	after, _ := w.sim.Container(9001)
	if after.Config["description"] != before.Config["description"] || after.Config["tags"] != before.Config["tags"] {
		t.Errorf("the template is not as before: %v, want %v", after.Config, before.Config)
	}
}

func TestReplicasGoTogether(t *testing.T) {
	w := newLab(t)
	w.ready(1, 3)
	w.add(9100, func(t *pve.Template) {
		t.Config["description"] = info("1", "ready", 1).Describe()
		t.Config["rootfs"] = pve.LabStorage + ":basevol-9001-disk-0/basevol-9100-disk-0,size=4G"
	})
	said, err := w.prune()
	w.want(said, err, 9002, 9003)
}

func TestWhatIsNotOursToRemoveStays(t *testing.T) {
	w := newLab(t)
	w.ready(3, 5)
	w.add(9001, func(t *pve.Template) { // being built by somebody
		t.Config = map[string]string{"description": info("1", "building", 0).Describe(), "tags": "dayfly-template;dayfly-state.building"}
	})
	w.add(9002, func(t *pve.Template) { t.Config["lock"] = "disk" }) // being cloned
	w.add(9090, func(t *pve.Template) { t.Config["description"] = "not ours" })
	w.add(9091, func(t *pve.Template) {
		i := info("1", "ready", 0)
		i.Family = "debian-13"
		t.Config["description"] = i.Describe()
	})
	w.add(9092, func(t *pve.Template) { // withdrawn by an earlier prune that was killed
		t.Config = map[string]string{"description": info("0", "replaced", 0).Describe(), "tags": "dayfly-template"}
	})
	said, err := w.prune()
	w.want(said, err, 9001, 9002, 9004, 9005, 9090, 9091)
	if !strings.Contains(said, "keep ubuntu-24.04@2, 9002 on node pve: it is locked (disk)") {
		t.Errorf("said %s", said)
	}
}

func TestNothingIsRemovedInTheDark(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*lab)
		want string
	}{
		"pool files invalid": {func(w *lab) {
			if err := os.WriteFile(filepath.Join(w.conf["pools_directory"].(string), "bad.hcl"), []byte("pool {"), 0o600); err != nil {
				w.Fatal(err)
			}
		}, "bad.hcl"},
		"pool files gone": {func(w *lab) { w.conf["pools_directory"] = "/does/not/exist" }, "/does/not/exist"},
		"runners unseen": {func(w *lab) {
			w.sim.RevokeACL("/pool/"+pve.LabRunners, "DayflyPrune", "packer@pve", w.conf["username"].(string))
		}, "has no VM.Audit on /pool/dayfly-runners (to see which templates have clones); hint: pveum "},
		"token wrong": {func(w *lab) { w.conf["token"] = "canary" }, "prune templates of the family ubuntu-24.04: "},
	} {
		t.Run(name, func(t *testing.T) {
			w := newLab(t)
			w.ready(1, 4)
			c.edit(w)
			said, err := w.prune()
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("got %v, want %q", err, c.want)
			}
			w.want(said, nil, 9001, 9002, 9003, 9004)
		})
	}
}

func TestOneFailureDoesNotKeepTheOthers(t *testing.T) {
	w := newLab(t)
	w.ready(1, 5)
	w.sim.FailNext("vzdestroy", "no luck today")
	said, err := w.prune()
	if err == nil || !strings.Contains(err.Error(), "remove ubuntu-24.04@1, 9001 on node pve: ") || !strings.Contains(err.Error(), "no luck today") {
		t.Errorf("got %v", err)
	}
	w.want(said, nil, 9001, 9004, 9005)
	if k, _ := w.sim.Container(9001); !strings.Contains(k.Config["tags"], proxmox.ReadyTag) {
		t.Errorf("tags %q, want a template that is ready as before", k.Config["tags"])
	}
}

func TestAllConfigurationErrorsAtOnce(t *testing.T) {
	newLab(t)
	err := (&PostProcessor{}).Configure(map[string]any{"keep_releases": -1, "family": "a b", "timeout": "-1s", "pools_directory": "relative"})
	for _, field := range []string{"proxmox_url", "username", "keep_releases", "family", "runner_pool", "pools_directory", "timeout"} {
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+field+": ") {
			t.Errorf("no error about %s in\n%v", field, err)
		}
	}
	err = (&PostProcessor{}).Configure(map[string]any{"proxmox_url": "ftp://x", "username": "packer@pve!build", "tls_fingerprint": "zz",
		"tls_ca_file": "/does/not/exist", "task_timeout": "-1s", "repository": "ftp://x", "branch": "a b", "path": "../up",
		"git_ca_file": "/does/not/exist", "git_private_key_file": "/does/not/exist", "git_known_hosts_file": "/does/not/exist", "git_timeout": "-1s"})
	for _, field := range []string{"proxmox_url", "token", "tls_fingerprint", "tls_ca_file", "task_timeout", "repository", "branch", "path",
		"git_ca_file", "git_private_key_file", "git_known_hosts_file", "git_timeout", "runner_pool"} {
		if err == nil || strings.Count("\n"+err.Error(), "\n"+field+": ") != 1 {
			t.Errorf("want one error about %s in\n%v", field, err)
		}
	}
	if err := (&PostProcessor{}).Configure(map[string]any{}); err == nil || !strings.Contains(err.Error(), "repository: give this or pools_directory") {
		t.Errorf("got %v", err)
	}
}

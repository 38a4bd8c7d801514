package template

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// world is a simulated Proxmox with templates, and the configuration of a
// data source that asks it.
type world struct {
	sim  *pve.Cluster
	conf map[string]any
}

func newWorld(t *testing.T) *world {
	t.Helper()
	sim := pve.New(pve.Config{Nodes: []string{"pve", "two"}, Timing: pve.Timing{AuthDelay: -1}})
	pve.Lab(sim)
	id, secret, _ := strings.Cut(pve.LabBuilder(sim), "=")
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	for _, name := range []string{"PROXMOX_URL", "PROXMOX_USERNAME", "PROXMOX_PASSWORD", "PROXMOX_TOKEN"} {
		t.Setenv(name, "")
	}
	return &world{sim, map[string]any{"proxmox_url": server.URL, "username": id, "token": secret, "family": "ubuntu-24.04", "base_version": "2.9.0"}}
}

func (w *world) add(vmid int, family, version, state string) {
	info := proxmox.TemplateInfo{
		Schema: 1, Family: family, Version: version, State: state, Runner: "2.9.0", RunnerSHA256: "abc", OS: "Ubuntu",
		Docker: "28.5.1", StorageDriver: "overlay2", Source: "base", Commit: "c0ffee", BuiltAt: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
	}
	w.sim.AddTemplate(pve.Template{VMID: vmid, ResourcePool: pve.LabTemplates, Storage: pve.LabStorage, Config: map[string]string{
		"hostname": fmt.Sprintf("t%d", vmid), "description": info.Describe(), "tags": "dayfly-template;dayfly-state." + state,
	}})
}

func (w *world) find(t *testing.T, conf map[string]any) (DatasourceOutput, error) {
	t.Helper()
	for k, v := range w.conf {
		if _, ok := conf[k]; !ok {
			conf[k] = v
		}
	}
	d := &Datasource{}
	if err := d.Configure(conf); err != nil {
		t.Fatal(err)
	}
	return d.find()
}

func TestNewestIsFoundAndTheNextVersionIsFree(t *testing.T) {
	w := newWorld(t)
	w.add(9000, "ubuntu-24.04", "2.9.0-9", "ready")
	w.add(9001, "ubuntu-24.04", "2.9.0-10", "ready")
	w.add(9002, "ubuntu-24.04", "2.9.0-11", "building")
	w.add(9003, "debian-13", "2.9.0-99", "ready")
	got, err := w.find(t, map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	want := DatasourceOutput{
		Family: "ubuntu-24.04", Version: "2.9.0-10", NextVersion: "2.9.0-12", Versions: []string{"2.9.0-10", "2.9.0-9"}, VMID: "9001", Node: "pve",
		Name: "t9001", Storage: pve.LabStorage, RunnerVersion: "2.9.0", RunnerSHA256: "abc", OS: "Ubuntu", DockerVersion: "28.5.1",
		StorageDriver: "overlay2", Source: "base", Commit: "c0ffee", BuiltAt: "2026-11-01T00:00:00Z",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got, err := w.find(t, map[string]any{"version": "2.9.0-9", "base_version": "3.0.0"}); err != nil || got.VMID != "9000" || got.NextVersion != "3.0.0-1" {
		t.Errorf("got %+v, %v, want 9000 and 3.0.0-1", got, err)
	}
}

func TestFirstBuildHasAVersionToo(t *testing.T) {
	w := newWorld(t)
	got, err := w.find(t, map[string]any{})
	if err != nil || got.NextVersion != "2.9.0-1" || got.Version != "" || len(got.Versions) != 0 {
		t.Errorf("got %+v, %v, want 2.9.0-1 and no template", got, err)
	}
	if _, err := w.find(t, map[string]any{"must_exist": true}); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("must_exist: got %v, want %v", err, fleet.ErrNotFound)
	}
}

func TestMissingVersionNamesThoseThatAreThere(t *testing.T) {
	w := newWorld(t)
	w.add(9000, "ubuntu-24.04", "2.9.0-9", "ready")
	_, err := w.find(t, map[string]any{"version": "2.9.0-8"})
	if !errors.Is(err, fleet.ErrNotFound) || !strings.Contains(err.Error(), "template ubuntu-24.04@2.9.0-8: ") || !strings.Contains(err.Error(), "there are 2.9.0-9") {
		t.Errorf("got %v", err)
	}
}

func TestRefusalsSayWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	_, err := w.find(t, map[string]any{"token": "wrong-canary"})
	if !errors.Is(err, fleet.ErrDenied) || strings.Contains(err.Error(), "canary") {
		t.Errorf("wrong token: got %v", err)
	}
	w.sim.StopNode("two")
	for node, want := range map[string]string{"nope": "nodes[1]: there is no node nope; hint: the cluster has pve, two", "two": "nodes[1]: node two is offline"} {
		if _, err := w.find(t, map[string]any{"nodes": []string{"pve", node}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("node %s: got %v, want %q", node, err, want)
		}
	}
}

func TestAllConfigurationErrorsAtOnce(t *testing.T) {
	newWorld(t)
	err := (&Datasource{}).Configure(map[string]any{"family": "a b", "version": "/", "base_version": "-", "timeout": "-1s"})
	for _, field := range []string{"proxmox_url", "username", "family", "version", "base_version", "timeout"} {
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+field+": ") {
			t.Errorf("no error about %s in\n%v", field, err)
		}
	}
	err = (&Datasource{}).Configure(map[string]any{"family": "a", "proxmox_url": "ftp://x", "username": "packer", "tls_fingerprint": "zz",
		"tls_ca_file": "/does/not/exist", "task_timeout": "-1s"})
	for _, field := range []string{"proxmox_url", "username", "tls_fingerprint", "tls_ca_file", "task_timeout"} {
		if err == nil || strings.Count("\n"+err.Error(), "\n"+field+": ") != 1 {
			t.Errorf("want one error about %s in\n%v", field, err)
		}
	}
}

func TestOutputIsWhatTheSpecSays(t *testing.T) {
	w := newWorld(t)
	d := &Datasource{}
	if err := d.Configure(w.conf); err != nil {
		t.Fatal(err)
	}
	value, err := d.Execute()
	if err != nil {
		t.Fatal(err)
	}
	for name := range d.OutputSpec() {
		if !value.Type().HasAttribute(name) {
			t.Errorf("the output has no %s", name)
		}
	}
	if got := value.GetAttr("next_version").AsString(); got != "2.9.0-1" {
		t.Errorf("next_version is %q", got)
	}
}

package main

import (
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

type clusterKey struct{}

// serveProxmox puts a Proxmox there on which builds have left things, and the
// environment that leads to it: "proxmox builder", "proxmox daemon" or
// "proxmox clean".
func serveProxmox(ts *testscript.TestScript, _ bool, args []string) {
	c := pve.New(pve.Config{})
	token := pve.Lab(c)
	if args[0] != "daemon" {
		token = pve.LabBuilder(c)
	}
	if args[0] != "clean" {
		leaveRemains(c)
	}
	srv := httptest.NewServer(c)
	ts.Defer(srv.Close)
	id, secret, _ := strings.Cut(token, "=")
	ts.Setenv("PROXMOX_URL", srv.URL)
	ts.Setenv("PROXMOX_USERNAME", id)
	ts.Setenv("PROXMOX_TOKEN", secret)
	*ts.Value(clusterKey{}).(**pve.Cluster) = c
}

// leaveRemains adds what builds leave, finished templates and a container of
// somebody else.
func leaveRemains(c *pve.Cluster) {
	now := time.Now()
	old, young := now.Add(-50*time.Hour-10*time.Minute-30*time.Second), now.Add(-3*time.Hour-5*time.Minute-30*time.Second)
	add := func(id int, state, tag string, began time.Time, more map[string]string) pve.Container {
		info := proxmox.TemplateInfo{Schema: 1, Family: "debian-13", Version: "1.0.0-" + strconv.Itoa(id-9000), State: state,
			Build: "b" + strconv.Itoa(id), Started: began}
		k := pve.Container{VMID: id, ResourcePool: pve.LabTemplates, Storage: pve.LabStorage, Config: map[string]string{
			"tags": proxmox.TemplateTag + ";" + tag, "description": info.Describe()}}
		for key, v := range more {
			k.Config[key] = v
		}
		return k
	}
	c.AddTemplate(pve.Template(add(9001, "ready", proxmox.ReadyTag, old, nil)))
	c.AddContainer(add(9002, "building", proxmox.BuildingTag, old, nil))
	c.AddContainer(add(9003, "building", proxmox.BuildingTag, young, nil))
	c.AddContainer(add(9004, "smoke", proxmox.BuildingTag, old, map[string]string{"protection": "1"}))
	c.AddTemplate(pve.Template(add(9005, "building", proxmox.BuildingTag, old, map[string]string{"lock": "disk"})))
	c.AddContainer(add(9006, "", proxmox.BuildingTag, old, map[string]string{"description": "hello"}))
	c.AddTemplate(pve.Template(add(9007, "replaced", "dayfly-state.replaced", old, nil)))
	c.AddContainer(add(9008, "container", proxmox.BuildingTag, old, nil))
	c.AddContainer(pve.Container{VMID: 9009, ResourcePool: pve.LabTemplates, Storage: pve.LabStorage, Config: map[string]string{"tags": "web"}})
}

// containersAre compares the containers that are there: "containers 9001 9003".
func containersAre(ts *testscript.TestScript, _ bool, args []string) {
	var got []string
	for _, k := range (*ts.Value(clusterKey{}).(**pve.Cluster)).Containers() {
		got = append(got, strconv.Itoa(k.VMID))
	}
	if strings.Join(got, " ") != strings.Join(args, " ") {
		ts.Fatalf("containers: got %s, want %s", got, args)
	}
}

// What a build that came to its end meanwhile has made is not removed.
func TestSweepLeavesWhatBecameReady(t *testing.T) {
	c := pve.New(pve.Config{})
	pve.Lab(c)
	id, secret, _ := strings.Cut(pve.LabBuilder(c), "=")
	leaveRemains(c)
	srv := httptest.NewServer(c)
	defer srv.Close()
	t.Setenv("PROXMOX_URL", srv.URL)
	t.Setenv("PROXMOX_USERNAME", id)
	t.Setenv("PROXMOX_TOKEN", secret)
	conf, err := new(program).sweepAccess(sweepOptions{})
	if err != nil {
		t.Fatal(err)
	}
	api, err := proxmox.NewBuilder(conf)
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	list, err := lookForRemains(t.Context(), api, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ready := proxmox.TemplateInfo{Schema: 1, Family: "debian-13", Version: "1.0.0-2", State: "ready", Build: "b9002"}
	c.SetOption(9002, "description", ready.Describe())
	removeRemains(t.Context(), api, list)
	if _, there := c.Container(9002); !there {
		t.Error("the finished template was removed")
	}
	if _, there := c.Container(9004); there {
		t.Error("the old smoke test's clone is still there")
	}
	if err := sweepVerdict(list); err != nil {
		t.Errorf("got %v, want no error", err)
	}
}

// A sweep with what the daemon's configuration says trusts what the daemon
// trusts, and is told the right host name to expect.
func TestSweepChecksTheServerAsTheDaemonDoes(t *testing.T) {
	cluster := pve.New(pve.Config{})
	token := pve.Lab(cluster)
	srv := httptest.NewUnstartedServer(cluster)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // it says who refused it
	srv.StartTLS()
	defer srv.Close()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"token": token, "key": string(appKey()), "secret": "webhook-secret",
		"ca.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PROXMOX_USERNAME", "")
	t.Setenv("PROXMOX_TOKEN", "")
	t.Setenv("PROXMOX_PASSWORD", "")
	for _, test := range []struct{ name, lines, env, ca, want string }{
		{"nothing is known", "", "", "", "certificate"},
		{"the CA of the configuration", "ca_file = \"ca.pem\"", "", "", ""},
		{"no CA by flag", "ca_file = \"ca.pem\"", "", filepath.Join(dir, "token"), "no certificate in PEM form"},
		{"a name that the server has", "ca_file = \"ca.pem\"\nserver_name = \"example.com\"", "", "", ""},
		{"a name that it does not have", "ca_file = \"ca.pem\"\nserver_name = \"pve.example.org\"", "", "", "pve.example.org"},
		{"the same server by the environment", "ca_file = \"ca.pem\"", srv.URL, "", ""},
		{"another server by the environment", "ca_file = \"ca.pem\"", srv.URL + "/api2/json", "", "certificate"},
		{"another server with its CA", "", srv.URL + "/api2/json", filepath.Join(dir, "ca.pem"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("PROXMOX_URL", test.env)
			text := strings.Replace(good, `"https://pve1:8006"`, strconv.Quote(srv.URL)+"\n"+test.lines, 1)
			file := filepath.Join(dir, "dayfly.hcl")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := askNodes(t, sweepOptions{config: file, ca: test.ca})
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want an error about %q", err, test.want)
			}
		})
	}
}

// askNodes makes a sweep's client and asks for the nodes.
func askNodes(t *testing.T, o sweepOptions) error {
	conf, err := new(program).sweepAccess(o)
	if err != nil {
		return err
	}
	api, err := proxmox.NewBuilder(conf)
	if err != nil {
		return err
	}
	defer api.Close()
	_, err = api.Nodes(t.Context())
	return err
}

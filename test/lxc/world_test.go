// Package lxc tests the guest, the daemon and the whole chain on real
// containers, in the sandbox of internal/sim/lab.
package lxc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m.Run)) }

// Where things are in every test's world.
const (
	scope     = "acme/app"
	baseImage = "vztmpl/debian-13-lab_amd64.tar"
	firstVMID = 20000
)

var labels = []string{"self-hosted", "linux"}

// world is one node with real containers, and a GitHub. All tests share it:
// root file systems are unpacked once.
type world struct {
	*sim.World
	machine *lab.Machine
	api     string // URL of Proxmox's API
	token   string // root's
	builder string
	broker  string // host:port
	vmids   atomic.Int64
}

var sharedWorld = sync.OnceValues(newWorld)

// inLab gives the world, or skips the test where there can be no lab.
func inLab(t testing.TB) *world {
	t.Helper()
	if err := lab.Missing(); err != nil {
		t.Skip(err)
	}
	w, err := sharedWorld()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func newWorld() (*world, error) {
	broker, err := net.Listen("tcp", lab.Gateway+":0")
	if err != nil {
		return nil, err
	}
	api, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &world{machine: new(lab.Machine), broker: broker.Addr().String(), api: "http://" + api.Addr().String() + "/api2/json"}
	w.World = sim.New(sim.Config{
		PVE: pve.Config{Nodes: []string{lab.Host}, Machine: w.machine},
		Hub: hub.Config{Broker: "http://" + broker.Addr().String() + "/"},
	})
	go func() { _ = http.Serve(broker, w.GitHub.Broker()) }()
	go func() { _ = http.Serve(api, w.ProxmoxAPI()) }()
	pve.Lab(w.Proxmox)
	w.builder = pve.LabBuilder(w.Proxmox)
	w.token = "root@pam!test=" + w.Proxmox.AddToken("root@pam!test", false)
	w.GitHub.AddInstallation(hub.Installation{Account: "acme", Repositories: []string{"app"}})
	w.vmids.Store(firstVMID)
	return w, w.archives(map[string]func() (string, error){"debian-13-lab_amd64.tar": lab.Debian, "busybox_amd64.tar": lab.Busybox})
}

// archives puts base images on the storage "local".
func (w *world) archives(list map[string]func() (string, error)) error {
	s := pve.Storage{ID: "local", Type: "dir", Path: lab.ArchiveDir, Content: []string{"vztmpl"}}
	files, _ := filepath.Glob(filepath.Join(lab.ArchiveDir, "template/cache/*"))
	for name, image := range list {
		path, err := image()
		if err == nil {
			err = lab.Archive(path, name)
		}
		if err != nil {
			return err
		}
		files = append(files, name)
	}
	for _, f := range files {
		s.Files = append(s.Files, pve.Archive{Name: "vztmpl/" + filepath.Base(f), Size: 100 << 20})
	}
	w.Proxmox.AddStorage(s)
	return nil
}

// call makes one request to Proxmox's API as root and returns the data.
func (w *world) call(method, path string, params map[string]string) (json.RawMessage, error) {
	form := url.Values{}
	for k, v := range params {
		form.Set(k, v)
	}
	target, body := w.api+path, io.Reader(strings.NewReader(form.Encode()))
	if method == http.MethodGet || method == http.MethodDelete {
		target, body = target+"?"+form.Encode(), nil
	}
	req, err := http.NewRequest(method, target, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "PVEAPIToken="+w.token)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Data   json.RawMessage
		Errors json.RawMessage
	}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s %s", method, path, resp.Status, answer.Errors)
	}
	return answer.Data, err
}

// task makes a request that starts a task, and waits for its end.
func (w *world) task(method, path string, params map[string]string) error {
	data, err := w.call(method, path, params)
	if err != nil {
		return err
	}
	var upid string
	if err := json.Unmarshal(data, &upid); err != nil || upid == "" {
		return err
	}
	for {
		data, err := w.call(http.MethodGet, "/nodes/"+lab.Host+"/tasks/"+upid+"/status", nil)
		var s struct{ Status, ExitStatus string }
		switch {
		case err != nil:
			return err
		case json.Unmarshal(data, &s) != nil:
			return fmt.Errorf("task %s: %s", upid, data)
		case s.Status == "stopped" && (s.ExitStatus == "OK" || strings.HasPrefix(s.ExitStatus, "WARNINGS")):
			return nil
		case s.Status == "stopped":
			return errors.New(s.ExitStatus)
		}
		<-time.After(2 * time.Millisecond)
	}
}

func (w *world) lxc(vmid int, rest string) string {
	return fmt.Sprintf("/nodes/%s/lxc/%d%s", lab.Host, vmid, rest)
}

// guest is one container.
type guest struct {
	testing.TB
	w    *world
	vmid int
	name string
}

// clone makes a container of a template. It is gone after the test.
func (w *world) clone(t testing.TB, template int) *guest {
	t.Helper()
	g := &guest{TB: t, w: w, vmid: int(w.vmids.Add(1))}
	g.name = fmt.Sprintf("r-%d", g.vmid)
	err := w.task(http.MethodPost, w.lxc(template, "/clone"), map[string]string{"newid": fmt.Sprint(g.vmid), "hostname": g.name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.destroy)
	return g
}

func (g *guest) destroy() {
	g.Helper()
	if _, there := g.w.Proxmox.Container(g.vmid); !there {
		return
	}
	if err := g.w.task(http.MethodDelete, g.w.lxc(g.vmid, ""), map[string]string{"force": "1"}); err != nil {
		g.Errorf("destroy container %d: %v", g.vmid, err)
	}
}

// set changes options of the container.
func (g *guest) set(options map[string]string) {
	g.Helper()
	if _, err := g.w.call(http.MethodPut, g.w.lxc(g.vmid, "/config"), options); err != nil {
		g.Fatal(err)
	}
}

func (g *guest) start() {
	g.Helper()
	if err := g.w.task(http.MethodPost, g.w.lxc(g.vmid, "/status/start"), nil); err != nil {
		g.Fatalf("%v\n%s", err, g.log())
	}
}

// launch mints a config, gives it to the container in its environment, as the
// daemon does without a root half, and starts it.
func (g *guest) launch() {
	g.Helper()
	config := g.w.GitHub.Mint(scope, g.name, labels...)
	g.set(map[string]string{"env": sim.JITVariable + "=" + config})
	g.start()
}

// path is a file of the container as the host sees it, on disk.
func (g *guest) path(name string) string {
	k, _ := g.w.Proxmox.Container(g.vmid)
	return filepath.Join(lab.Rootfs(k.Config["rootfs"]), name)
}

func (g *guest) read(name string) string {
	text, err := os.ReadFile(g.path(name))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// write puts a file into the container before it starts.
func (g *guest) write(name, text string) {
	g.Helper()
	if err := os.MkdirAll(filepath.Dir(g.path(name)), 0o755); err != nil {
		g.Fatal(err)
	}
	if err := os.WriteFile(g.path(name), []byte(text), 0o644); err != nil {
		g.Fatal(err)
	}
}

// log is what there is to say when something went wrong.
func (g *guest) log() string {
	var b strings.Builder
	for _, f := range []string{"exit.json", "journal.txt", "evidence/disk", "evidence/limits"} {
		fmt.Fprintf(&b, "%s: %s\n", f, g.read("/var/lib/dayfly/"+f))
	}
	return b.String()
}

// patience bounds every wait: a machine may be busy.
const patience = 2 * time.Minute

// until waits for something that happens elsewhere.
func (g *guest) until(what string, happened func() bool) {
	g.Helper()
	late := time.After(patience)
	for tick := time.NewTicker(10 * time.Millisecond); !happened(); {
		select {
		case <-tick.C:
		case <-late:
			out, _ := g.exec("journalctl --no-pager --boot | tail -n 50; ip address; ip route; systemctl --failed")
			g.Fatalf("container %d: %s: not within %s\n%s\n%s", g.vmid, what, patience, g.log(), out)
		}
	}
}

// ended waits until the container has gone down by itself.
func (g *guest) ended() {
	g.Helper()
	g.until("it powers itself off", func() bool {
		k, _ := g.w.Proxmox.Container(g.vmid)
		return !k.Running
	})
}

// job queues a job of bash steps.
func (w *world) job(steps ...string) hub.JobID {
	n := hub.NewJob{Repo: scope, Labels: labels}
	for i, s := range steps {
		n.Steps = append(n.Steps, hub.Step{Name: fmt.Sprint("step ", i+1), Run: s})
	}
	return w.GitHub.QueueJob(n)
}

// runs runs a job in the container and waits until both have ended.
func (g *guest) runs(steps ...string) (hub.Job, string) {
	g.Helper()
	id := g.w.job(steps...)
	g.launch()
	g.until("its job ends", func() bool {
		j, _ := g.w.GitHub.Job(id)
		return j.Status == hub.StatusCompleted
	})
	j, _ := g.w.GitHub.Job(id)
	return j, g.w.GitHub.JobLog(id)
}

// exec runs a shell command as root in the running container.
func (g *guest) exec(command string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return attach(ctx, g.vmid, command)
}

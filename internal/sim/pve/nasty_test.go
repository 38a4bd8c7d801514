package pve

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

func TestResourcesLagBehind(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		row := func() map[string]any {
			for _, r := range api.want(200, "OK", "GET /cluster/resources", "type", "vm").rows() {
				if m := r.(map[string]any); m["vmid"] == 20001.0 {
					return m
				}
			}
			t.Fatal("20001 is not listed")
			return nil
		}
		if m := row(); m["status"] != "unknown" || m["name"] != nil || m["pool"] != LabRunners {
			t.Errorf("right after the clone: got %v, want it unknown, without name, in its pool", m)
		}
		if n := len(api.want(200, "OK", "GET /nodes/pve/lxc").rows()); n != 2 {
			t.Errorf("the node's own list: got %d, want 2 at once", n)
		}
		time.Sleep(slow.StatusLag)
		if m := row(); m["status"] != "stopped" || m["name"] != "tmpl" {
			t.Errorf("a round later: got %v, want it stopped and named", m)
		}
		api.task("POST /nodes/pve/lxc/20001/status/start")
		if m := row(); m["status"] != "stopped" {
			t.Errorf("right after the start: got %v, want the old status", m["status"])
		}
		time.Sleep(slow.StatusLag)
		if m := row(); m["status"] != "running" {
			t.Errorf("a round later: got %v, want running", m["status"])
		}
	})
}

func TestTokenSeesItsOwnTasksOnly(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		admin := root(c, t)
		theirs := admin.want(200, "OK", "POST /nodes/pve/lxc/20001/status/start").str()
		admin.wait(theirs)
		api.want(403, "Permission check failed (/nodes/pve, Sys.Audit)", "GET /nodes/pve/tasks/"+theirs+"/status")
		if n := len(api.want(200, "OK", "GET /nodes/pve/tasks").rows()); n != 1 {
			t.Errorf("own list: got %d tasks, want the clone only", n)
		}
		if n := len(api.want(200, "OK", "GET /cluster/tasks").rows()); n != 0 {
			t.Errorf("/cluster/tasks: got %d tasks, want none for any token without Sys.Audit", n)
		}
		if n := len(admin.want(200, "OK", "GET /cluster/tasks").rows()); n != 2 {
			t.Errorf("/cluster/tasks of root: got %d tasks, want 2", n)
		}
	})
}

func TestDeadNodeAnswers595AndLosesWhatRan(t *testing.T) {
	bubble(t, Config{Nodes: []string{"pve", "two"}}, func(t *testing.T, c *Cluster, api *client) {
		c.AddTemplate(Template{VMID: 9100, Node: "two", Storage: LabStorage, ResourcePool: LabTemplates})
		c.AddContainer(Container{VMID: 20001, Node: "two", Storage: LabStorage, ResourcePool: LabRunners, Running: true})
		upid := api.want(200, "OK", "POST /nodes/two/lxc/9100/clone", "newid", "20002", "pool", LabRunners).str()
		time.Sleep(time.Second)
		c.StopNode("two")
		api.want(595, "No route to host", "GET /nodes/two/lxc")
		api.want(200, "OK", "GET /nodes/pve/lxc")
		time.Sleep(10 * time.Second)
		for _, r := range api.want(200, "OK", "GET /cluster/resources", "type", "vm").rows() {
			if m := r.(map[string]any); m["node"] == "two" && m["status"] != "unknown" {
				t.Errorf("on the dead node: got %v, want unknown", m)
			}
		}
		c.StartNode("two")
		if k, _ := c.Container(20001); k.Status != "stopped" {
			t.Errorf("container after the power cut: got %s, want stopped", k.Status)
		}
		m := api.want(200, "OK", "GET /nodes/two/tasks/"+upid+"/status").obj()
		if m["exitstatus"] != "unexpected status" {
			t.Errorf("task: got %v, want unexpected status", m["exitstatus"])
		}
		api.want(500, "CT is locked (disk)", "POST /nodes/two/lxc/9100/clone", "newid", "20003", "pool", LabRunners)
	})
}

func TestUnknownNodeIsLookedUpForTenSeconds(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		begin := time.Now()
		a := api.want(500, "", "GET /nodes/nope/lxc")
		if !strings.HasPrefix(a.reason, "hostname lookup 'nope' failed") || time.Since(begin) != 10*time.Second {
			t.Errorf("got %q after %v", a.reason, time.Since(begin))
		}
		api.want(403, "Permission check failed (/nodes/nope, Sys.Audit)", "GET /nodes/nope/status")
		api.want(596, "", "GET /nodes/PVE/lxc")
	})
}

func TestRestartedDaemonAnswers596Then595(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		c.RestartDaemon("pve")
		api.want(596, "Connection reset by peer", "GET /nodes/pve/lxc")
		api.want(595, "Connection refused", "GET /nodes/pve/lxc")
		api.want(200, "OK", "GET /version")
		api.want(200, "OK", "GET /nodes/pve/lxc/9000/config")
		time.Sleep(slow.Restart)
		api.want(200, "OK", "GET /nodes/pve/lxc")
	})
}

func TestRestartedDaemonFinishesOrInterruptsItsWorkers(t *testing.T) {
	ends := map[string]int{}
	for seed := range int64(20) {
		bubble(t, Config{Seed: seed}, func(t *testing.T, c *Cluster, api *client) {
			upid := api.want(200, "OK", "POST /nodes/pve/lxc/9000/clone", "newid", "20001", "pool", LabRunners).str()
			c.RestartDaemon("pve")
			time.Sleep(slow.Restart)
			exit := api.wait(upid)
			ends[exit]++
			if _, there := c.Container(20001); there != (exit == "OK") {
				t.Errorf("seed %d: %q, and the container there: %t", seed, exit, there)
			}
			if k, _ := c.Container(9000); k.Lock != "" {
				t.Errorf("seed %d: source keeps the lock %q", seed, k.Lock)
			}
		})
	}
	if ends["OK"] == 0 || ends["clone failed: interrupted by signal"] == 0 || len(ends) != 2 {
		t.Errorf("ends of 20 restarts: got %v, want both ways", ends)
	}
}

func TestRebootedNodeStopsItsContainers(t *testing.T) {
	bubble(t, Config{Nodes: []string{"pve", "two"}}, func(t *testing.T, c *Cluster, api *client) {
		c.AddContainer(Container{VMID: 20001, Node: "two", Storage: LabStorage, ResourcePool: LabRunners, Running: true})
		c.RebootNode("two")
		if k, _ := c.Container(20001); k.Status != "stopped" {
			t.Errorf("status: got %s, want stopped", k.Status)
		}
		time.Sleep(slow.Restart)
		if got := api.want(200, "OK", "GET /nodes/two/lxc/20001/status/current").obj()["status"]; got != "stopped" {
			t.Errorf("after the reboot: got %v, want stopped", got)
		}
	})
}

func TestFailedTasksLeaveWhatProxmoxLeaves(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		fails := func(kind, what string, params ...string) {
			t.Helper()
			c.FailNext(kind, "boom "+kind)
			if got := api.task(what, params...); got != "boom "+kind {
				t.Errorf("%s: got %q, want the failure", kind, got)
			}
		}
		fails("vzclone", "POST /nodes/pve/lxc/9000/clone", "newid", "20001", "pool", LabRunners)
		if k, there := c.Container(20001); there {
			t.Errorf("after a failed clone: got %v, want nothing", k)
		}
		cloned(t, api, "20001")
		fails("vzstart", "POST /nodes/pve/lxc/20001/status/start")
		fails("vzdestroy", "DELETE /nodes/pve/lxc/20001")
		api.task("POST /nodes/pve/lxc/20001/status/start")
		fails("vzstop", "POST /nodes/pve/lxc/20001/status/stop")
		fails("vzshutdown", "POST /nodes/pve/lxc/20001/status/shutdown")
		if k, _ := c.Container(20001); !k.Booted || k.Lock != "" {
			t.Errorf("after a failed stop: got %+v, want it running and unlocked", k)
		}
		api.task("DELETE /nodes/pve/lxc/20001", "force", "1")
	})
}

func TestSeededTaskFaultsAreAskedOncePerTask(t *testing.T) {
	asked := 0
	fault := func(kind string, id int) string {
		asked++
		if kind == "vzclone" && id == 9000 && asked == 2 {
			return "clone failed: no space left"
		}
		return ""
	}
	bubble(t, Config{TaskFault: fault}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		if got := api.task("POST /nodes/pve/lxc/9000/clone", "newid", "20002", "pool", LabRunners); got != "clone failed: no space left" {
			t.Errorf("second clone: got %q", got)
		}
		if asked != 2 {
			t.Errorf("asked %d times for two tasks", asked)
		}
	})
}

func TestStorageInAResourcePoolTakesItsRights(t *testing.T) {
	c := New(Config{})
	token := Lab(c)
	c.AddStorage(Storage{ID: "second", Type: "lvmthin"})
	c.AddTemplate(Template{VMID: 9001, Storage: "second", ResourcePool: LabTemplates})
	api := newClient(t, c, token)
	api.want(403, "Permission check failed (/storage/second, Datastore.AllocateSpace)", "POST /nodes/pve/lxc/9001/clone", "newid", "20001", "pool", LabRunners)
	c.AddRole("DayflyRunners", "VM.Allocate,VM.Audit,Datastore.AllocateSpace")
	c.AddResourcePool(LabRunners, "second")
	api.want(200, "OK", "POST /nodes/pve/lxc/9001/clone", "newid", "20001", "pool", LabRunners)
}

func TestReasonIsInTheStatusLineOfASocketToo(t *testing.T) {
	c := New(Config{Timing: Timing{AuthDelay: -1}})
	token := Lab(c)
	srv := httptest.NewServer(c)
	defer srv.Close()
	conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /api2/json/nodes/pve/status HTTP/1.1\r\nHost: x\r\nAuthorization: PVEAPIToken=%s\r\n\r\n", token)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || line != "HTTP/1.1 403 Permission check failed (/nodes/pve, Sys.Audit)\r\n" {
		t.Errorf("status line: got %q, %v", line, err)
	}
	res, err := http.Get(srv.URL + "/api2/json/version")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); res.Status != "401 No ticket" || len(b) != 0 {
		t.Errorf("without credentials: got %s %q, want 401 No ticket and no body", res.Status, b)
	}
}

func TestWrongTokenIsAnsweredAfterThreeSeconds(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, _ *client) {
		begin := time.Now()
		newClient(t, c, "dayfly@pve!mgr=wrong").want(401, "Authentication failed!", "GET /version")
		if d := time.Since(begin); d != 3*time.Second {
			t.Errorf("answered after %v, want 3s", d)
		}
	})
}

func TestTicketNeedsItsCSRFTokenAndEndsAfterTwoHours(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		c.SetPassword("root@pam", "secret")
		api.auth = ""
		login := api.want(200, "OK", "POST /access/ticket", "username", "root@pam", "password", "secret").obj()
		send := func(csrf string) string {
			req, _ := http.NewRequest("PUT", "http://pve/api2/json/nodes/pve/lxc/9000/config", strings.NewReader("cores=2"))
			req.Header.Set("Cookie", "PVEAuthCookie="+login["ticket"].(string))
			req.Header.Set("CSRFPreventionToken", csrf)
			res, err := stage.Transport{Handler: c}.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			return res.Status
		}
		csrf := login["CSRFPreventionToken"].(string)
		if got := send(""); got != "401 Permission denied - invalid csrf token" {
			t.Errorf("without CSRF token: got %s", got)
		}
		if got := send(csrf); got != "200 OK" {
			t.Errorf("with CSRF token: got %s", got)
		}
		time.Sleep(2 * time.Hour)
		if got := send(csrf); got != "401 Authentication failed!" {
			t.Errorf("two hours later: got %s", got)
		}
	})
}

func TestSameSeedSameWorld(t *testing.T) {
	play := func(seed int64) (out string) {
		synctest.Test(t, func(t *testing.T) {
			c, api := lab(t, Config{Seed: seed, Timing: slow})
			for i := range 5 {
				id := fmt.Sprint(20001 + i)
				cloned(t, api, id)
				api.want(200, "OK", "POST /nodes/pve/lxc/"+id+"/status/start")
			}
			c.RestartDaemon("pve")
			time.Sleep(time.Minute)
			out = fmt.Sprintf("%+v %+v", c.Containers(), c.History())
		})
		return out
	}
	if a, b := play(1), play(1); a != b {
		t.Errorf("two worlds of one seed differ:\n%s\n%s", a, b)
	}
	if play(1) == play(2) {
		t.Error("worlds of two seeds are the same")
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{"GET /api2/json/version", "POST /api2/json/nodes/pve/lxc/9000/clone newid=20001&pool=dayfly-runners",
		"PUT /api2/json/nodes/pve/lxc/9000/config net0=name%3Deth0,bridge=vmbr0&delete=mp0", "DELETE /api2/json/nodes/pve/tasks/UPID:::",
		"GET /api2/json/nodes/pve/lxc/9000/firewall/rules/9", "PUT /api2/json/nodes/pve/lxc/9000/resize disk=rootfs&size=%2B1G"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := New(Config{Timing: Timing{AuthDelay: -1}})
		Lab(c)
		c.AddTemplate(Template{VMID: 9000, Storage: LabStorage, ResourcePool: LabTemplates})
		token := c.AddToken("root@pam!full", false)
		what, body, _ := bytes.Cut(b, []byte(" /api2"))
		path, body, _ := bytes.Cut(body, []byte(" "))
		req, err := http.NewRequest(string(what), "http://pve/api2"+string(path), bytes.NewReader(body))
		if err != nil || strings.Contains(string(path), "/nodes/") && !strings.HasPrefix(string(path), "/json/nodes/pve/") {
			t.Skip("no request, or one that waits for the resolver")
		}
		req.Header.Set("Authorization", "PVEAPIToken=root@pam!full="+token)
		res, err := stage.Transport{Handler: c}.RoundTrip(req)
		if err != nil {
			return
		}
		if res.StatusCode < 200 || res.StatusCode > 599 {
			t.Errorf("%q: status %d", b, res.StatusCode)
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	c := New(Config{})
	token := Lab(c)
	c.AddTemplate(Template{VMID: 9000, Storage: LabStorage, ResourcePool: LabTemplates})
	for i := range 50 {
		c.AddContainer(Container{VMID: 20000 + i, Storage: LabStorage, ResourcePool: LabRunners})
	}
	for _, what := range []string{"GET /version", "GET /nodes/pve/lxc/20001/config", "GET /nodes/pve/lxc", "GET /cluster/resources", "PUT /nodes/pve/lxc/20001/config cores=2"} {
		b.Run(what, func(b *testing.B) {
			verb, rest, _ := strings.Cut(what, " ")
			path, body, _ := strings.Cut(rest, " ")
			b.ReportAllocs()
			for range b.N {
				req := httptest.NewRequest(verb, "/api2/json"+path, strings.NewReader(body))
				req.Header.Set("Authorization", "PVEAPIToken="+token)
				c.ServeHTTP(discard{http.Header{}}, req)
			}
		})
	}
}

// discard is a ResponseWriter that keeps nothing.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

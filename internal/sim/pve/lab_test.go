package pve

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// client calls a cluster in-process as one token.
type client struct {
	t    *testing.T
	http http.Client
	auth string
}

func newClient(t *testing.T, h http.Handler, token string) *client {
	return &client{t, http.Client{Transport: stage.Transport{Handler: h}}, "PVEAPIToken=" + token}
}

// answer is a decoded response.
type answer struct {
	code   int
	reason string
	data   any
	errors map[string]string
}

func (a answer) str() string { s, _ := a.data.(string); return s }

func (a answer) obj() map[string]any { m, _ := a.data.(map[string]any); return m }

func (a answer) rows() []any { l, _ := a.data.([]any); return l }

// do sends "GET /version" with parameters given as name, value, name, value.
func (c *client) do(what string, params ...string) answer {
	c.t.Helper()
	verb, path, _ := strings.Cut(what, " ")
	form := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		form.Add(params[i], params[i+1])
	}
	target, body := "http://pve:8006/api2/json"+path, io.Reader(nil)
	if verb == "GET" || verb == "DELETE" {
		if len(form) > 0 {
			target += "?" + form.Encode()
		}
	} else {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequest(verb, target, body)
	if err != nil {
		c.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Authorization", c.auth)
	res, err := c.http.Do(req)
	if err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	a := answer{code: res.StatusCode}
	_, a.reason, _ = strings.Cut(res.Status, " ")
	var v struct {
		Data   any
		Errors map[string]string
	}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &v); err != nil {
			c.t.Fatalf("%s: %v in %q", what, err, b)
		}
	}
	a.data, a.errors = v.Data, v.Errors
	return a
}

// want sends a request and fails the test unless the answer is so.
func (c *client) want(code int, reason, what string, params ...string) answer {
	c.t.Helper()
	a := c.do(what, params...)
	if a.code != code || (reason != "" && a.reason != reason) {
		c.t.Fatalf("%s %q: got %d %s %v, want %d %s", what, params, a.code, a.reason, a.errors, code, reason)
	}
	return a
}

// task sends a request that answers with a UPID, waits for the task to end and
// returns its exit status.
func (c *client) task(what string, params ...string) string {
	c.t.Helper()
	return c.wait(c.want(200, "OK", what, params...).str())
}

func (c *client) wait(upid string) string {
	c.t.Helper()
	for range 1000 {
		m := c.want(200, "", "GET /nodes/pve/tasks/"+upid+"/status").obj()
		if m["status"] == "stopped" {
			return m["exitstatus"].(string)
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatalf("task %s does not end", upid)
	return ""
}

// slow is how long things take in tests that look at what happens meanwhile.
var slow = Timing{Clone: 2 * time.Second, FullClone: 20 * time.Second, Create: 10 * time.Second, Start: 2 * time.Second,
	Stop: time.Second, Shutdown: 3 * time.Second, Destroy: time.Second, Template: time.Second, StatusLag: 10 * time.Second, Restart: 15 * time.Second}

// lab is a cluster with the recommended footprint and the template 9000.
func lab(t *testing.T, cfg Config) (*Cluster, *client) {
	c := New(cfg)
	token := Lab(c)
	c.AddTemplate(Template{VMID: 9000, Storage: LabStorage, ResourcePool: LabTemplates, Rootfs: map[string]string{"/etc/dayfly": "1"},
		Config: map[string]string{"hostname": "tmpl", "features": "nesting=1,keyctl=1", "net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth"}})
	return c, newClient(t, c, token)
}

// world records what the Guest is told.
type world struct {
	booted chan Running
	halted chan int
}

func (w *world) Boot(r Running)        { w.booted <- r }
func (w *world) Halt(_ string, vm int) { w.halted <- vm }

func TestRunnerLivesAndLeavesNothing(t *testing.T) {
	for _, timing := range []Timing{{}, slow} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{make(chan Running, 1), make(chan int, 1)}
			c, api := lab(t, Config{Timing: timing, Guest: w})
			if got := api.task("POST /nodes/pve/lxc/9000/clone", "newid", "20001", "pool", LabRunners, "hostname", "r1", "description", "m"); got != "OK" {
				t.Fatalf("clone: got %q, want OK", got)
			}
			api.want(200, "OK", "PUT /nodes/pve/lxc/20001/config", "env", "JIT=abc", "cores", "2")
			if got := api.task("POST /nodes/pve/lxc/20001/status/start"); got != "OK" {
				t.Fatalf("start: got %q, want OK", got)
			}
			run := <-w.booted
			if run.VMID != 20001 || run.Hostname != "r1" || run.Env["JIT"] != "abc" || run.Rootfs["/etc/dayfly"] != "1" || run.Boot != 1 {
				t.Errorf("boot: got %+v", run)
			}
			c.PowerOff(20001)
			if vm := <-w.halted; vm != 20001 {
				t.Errorf("halt: got %d, want 20001", vm)
			}
			if got := api.task("DELETE /nodes/pve/lxc/20001", "force", "1"); got != "OK" {
				t.Fatalf("destroy: got %q, want OK", got)
			}
			if n := len(c.Containers()); n != 1 {
				t.Errorf("containers left: got %d, want the template only", n)
			}
			if v := c.Volumes(LabStorage); len(v) != 1 {
				t.Errorf("volumes left: got %v, want the template's only", v)
			}
			var kinds []string
			for _, e := range c.History() {
				kinds = append(kinds, e.Kind)
			}
			if got, want := strings.Join(kinds, " "), "clone start stop destroy"; got != want {
				t.Errorf("history: got %q, want %q", got, want)
			}
		})
	}
}

package pve

import (
	"strings"
	"testing"
	"time"
)

func TestDestroyedContainerIsForbiddenNotMissing(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		api.task("DELETE /nodes/pve/lxc/20001")
		api.want(403, "Permission check failed (/vms/20001, VM.Audit)", "GET /nodes/pve/lxc/20001/status/current")
		api.want(403, "Permission check failed (/vms/20001, VM.Allocate)", "DELETE /nodes/pve/lxc/20001")
		admin := root(c, t)
		admin.want(500, "Configuration file 'nodes/pve/lxc/20001.conf' does not exist", "DELETE /nodes/pve/lxc/20001")
		admin.want(500, "CT 20001 not running", "POST /nodes/pve/lxc/20001/status/stop")
	})
}

func TestConfigLockIsWaitedForTenSeconds(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		c.Hold(ConfigLock(20001), 5*time.Second)
		begin := time.Now()
		api.want(200, "OK", "PUT /nodes/pve/lxc/20001/config", "cores", "2")
		if d := time.Since(begin); d != 5*time.Second {
			t.Errorf("change under the lock: answered after %v, want 5s", d)
		}
		c.Hold(ConfigLock(20001), 25*time.Second)
		text := "can't lock file '/run/lock/lxc/pve-config-20001.lock' - got timeout"
		begin = time.Now()
		api.want(500, text, "PUT /nodes/pve/lxc/20001/config", "cores", "3")
		if d := time.Since(begin); d != 10*time.Second {
			t.Errorf("refusal: came after %v, want 10s", d)
		}
		if got := api.task("POST /nodes/pve/lxc/20001/status/start"); got != text {
			t.Errorf("start: got %q, want %q", got, text)
		}
	})
}

func TestStorageLockBoundsParallelDestroys(t *testing.T) {
	timing := slow
	timing.Destroy = 10 * time.Second // the storage's lock is held for 6 s of it
	bubble(t, Config{Timing: timing}, func(t *testing.T, c *Cluster, api *client) {
		var upids []string
		for _, id := range []string{"20001", "20002", "20003"} {
			cloned(t, api, id)
		}
		for _, id := range []string{"20001", "20002", "20003"} {
			upids = append(upids, api.want(200, "OK", "DELETE /nodes/pve/lxc/"+id).str())
		}
		want := []string{"OK", "OK", "can't lock file '/var/lock/pve-manager/pve-storage-local-zfs' - got timeout"}
		for i, u := range upids {
			if got := api.wait(u); got != want[i] {
				t.Errorf("destroy %d: got %q, want %q", i+1, got, want[i])
			}
		}
		if k, there := c.Container(20003); !there || k.Lock != "" {
			t.Errorf("loser: got there %t, lock %q, want it untouched", there, k.Lock)
		}
	})
}

func TestOfTwoDestroysOneFails(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		api.task("POST /nodes/pve/lxc/20001/status/start")
		a := api.want(200, "OK", "DELETE /nodes/pve/lxc/20001", "force", "1").str()
		b := api.want(200, "OK", "DELETE /nodes/pve/lxc/20001", "force", "1").str()
		if got := api.wait(a); got != "OK" {
			t.Errorf("first: got %q, want OK", got)
		}
		if got := api.wait(b); got != "Configuration file 'nodes/pve/lxc/20001.conf' does not exist" {
			t.Errorf("second: got %q", got)
		}
	})
}

func TestStartWithoutNestingEndsWithWarnings(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		api.want(200, "OK", "PUT /nodes/pve/lxc/20001/config", "features", "keyctl=1")
		if got := api.task("POST /nodes/pve/lxc/20001/status/start"); got != "WARNINGS: 1" {
			t.Errorf("exit status: got %q, want WARNINGS: 1", got)
		}
		if k, _ := c.Container(20001); !k.Booted {
			t.Error("the container is not up, want WARNINGS to be success")
		}
	})
}

func TestReadsWaitWhileAContainerStarts(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		upid := api.want(200, "OK", "POST /nodes/pve/lxc/20001/status/start").str()
		begin := time.Now()
		for _, quick := range []string{"GET /nodes/pve/lxc/20001/config", "GET /nodes/pve/lxc/20001/pending", "GET /cluster/resources", "GET /nodes/pve/tasks/" + upid + "/status"} {
			api.want(200, "OK", quick)
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("quick reads took %v", d)
		}
		if got := api.want(200, "OK", "GET /nodes/pve/lxc/20001/status/current").obj()["status"]; got != "running" {
			t.Errorf("status: got %v, want running", got)
		}
		if d := time.Since(begin); d != slow.Start {
			t.Errorf("status/current took %v, want it to wait for init, %v", d, slow.Start)
		}
		api.want(500, "CT 20001 already running", "POST /nodes/pve/lxc/20001/status/start")
		api.want(500, "unable to destroy CT 20001 - container is running", "DELETE /nodes/pve/lxc/20001")
	})
}

func TestDaemonWorkersFillUp(t *testing.T) {
	timing := slow
	timing.Start = time.Minute
	bubble(t, Config{Timing: timing}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		api.want(200, "OK", "POST /nodes/pve/lxc/20001/status/start")
		time.Sleep(time.Second)
		done := make(chan bool)
		for range daemonWorkers {
			go func() {
				api.do("GET /nodes/pve/lxc/20001/status/current")
				done <- true
			}()
		}
		time.Sleep(time.Second)
		begin := time.Now()
		api.want(596, "Connection timed out", "GET /nodes/pve/qemu")
		if d := time.Since(begin); d != proxyWait {
			t.Errorf("refusal: came after %v, want %v", d, proxyWait)
		}
		api.want(200, "OK", "GET /version")
		for range daemonWorkers {
			<-done
		}
	})
}

func TestShutdownMayBeIgnored(t *testing.T) {
	bubble(t, Config{Guest: deaf{}}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		api.task("POST /nodes/pve/lxc/20001/status/start")
		if got := api.task("POST /nodes/pve/lxc/20001/status/shutdown", "timeout", "5"); got != "container did not stop" {
			t.Errorf("without forceStop: got %q", got)
		}
		if got := api.task("POST /nodes/pve/lxc/20001/status/shutdown", "timeout", "5", "forceStop", "1"); got != "OK" {
			t.Errorf("with forceStop: got %q, want OK", got)
		}
		if k, _ := c.Container(20001); k.Status != "stopped" {
			t.Errorf("status: got %s, want stopped", k.Status)
		}
	})
}

// deaf is a guest that ignores shutdowns.
type deaf struct{}

func (deaf) Boot(Running)           {}
func (deaf) Halt(string, int)       {}
func (deaf) Obeys(string, int) bool { return false }

func TestEnvWaitsForTheNextStartAndCannotBeScrubbed(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		const config = "PUT /nodes/pve/lxc/20001/config"
		for _, bad := range []string{"A=1\nB=2", "novalue", "A=\x1b[0m"} {
			if a := api.want(400, "", config, "env", bad); a.errors["env"] != "value does not match the regex pattern" {
				t.Errorf("env %q: got %v", bad, a.errors)
			}
		}
		api.want(200, "OK", config, "env", "A=1\x00B=two words")
		api.task("POST /nodes/pve/lxc/20001/status/start")
		api.want(200, "OK", config, "env", "A=2")
		api.want(200, "OK", config, "delete", "env")
		k, _ := c.Container(20001)
		if k.Env["A"] != "1" || k.Env["B"] != "two words" || k.Config["env"] == "" {
			t.Errorf("running: got env %v, config %q, want the old ones", k.Env, k.Config["env"])
		}
		api.task("POST /nodes/pve/lxc/20001/status/stop")
		if k, _ = c.Container(20001); k.Config["env"] != "A=2" || k.Env != nil {
			t.Errorf("stopped: got config %q, env %v, want A=2 (deleted first, then set) and none", k.Config["env"], k.Env)
		}
	})
}

func TestEnvIsHiddenFromAuditors(t *testing.T) {
	bubble(t, Config{Timing: Timing{Clone: time.Second}}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		api.want(200, "OK", "PUT /nodes/pve/lxc/20001/config", "env", "JIT=secret")
		c.AddUser("audit@pve")
		audit := newClient(t, c, "audit@pve!tok="+c.AddToken("audit@pve!tok", false))
		c.SetACL("/vms/20001", "PVEAuditor", false, "audit@pve")
		if got := audit.want(200, "OK", "GET /nodes/pve/lxc/20001/config").obj()["env"]; got != nil {
			t.Errorf("config: an auditor got env %v", got)
		}
		for _, row := range audit.want(200, "OK", "GET /nodes/pve/lxc/20001/pending").rows() {
			if row.(map[string]any)["key"] == "env" {
				t.Error("pending: an auditor got env")
			}
		}
		if got := api.want(200, "OK", "GET /nodes/pve/lxc/20001/config").obj()["env"]; got != "JIT=secret" {
			t.Errorf("config: who may set it got env %v", got)
		}
	})
}

func TestReleasesDiffer(t *testing.T) {
	for release, want := range map[string]string{
		"8.4.21": "property is not defined in schema and the schema does not allow additional properties",
		"9.1.4":  "", // the newline hole of pve-container before 6.1.8
		"9.2.11": "value does not match the regex pattern",
	} {
		bubble(t, Config{Release: release, Timing: Timing{Clone: time.Second}}, func(t *testing.T, c *Cluster, api *client) {
			cloned(t, api, "20001")
			if got := api.do("PUT /nodes/pve/lxc/20001/config", "env", "A=1\nlxc.hook.start=/bin/sh").errors["env"]; got != want {
				t.Errorf("%s: env with a newline: got %q, want %q", release, got, want)
			}
			if got := api.want(200, "OK", "GET /version").obj()["version"]; got != release {
				t.Errorf("version: got %v, want %s", got, release)
			}
			_, monitor := c.access.roles["PVEVMAdmin"], c.access.roles["PVEVMAdmin"]&privBits["VM.Monitor"] != 0
			if monitor != strings.HasPrefix(release, "8") {
				t.Errorf("%s: VM.Monitor in PVEVMAdmin: got %t", release, monitor)
			}
		})
	}
}

func TestLockOnceSetStays(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		api.want(200, "OK", "PUT /nodes/pve/lxc/20001/config", "lock", "backup")
		api.want(500, "CT is locked (backup)", "PUT /nodes/pve/lxc/20001/config", "delete", "lock")
		api.want(500, "CT is locked (backup)", "DELETE /nodes/pve/lxc/20001", "force", "1")
		if a := api.want(400, "", "POST /nodes/pve/lxc/20001/status/start", "skiplock", "1"); a.errors["skiplock"] != "Only root may use this option." {
			t.Errorf("skiplock: got %v", a.errors)
		}
		if got := api.task("POST /nodes/pve/lxc/20001/status/start"); got != "CT is locked (backup)" {
			t.Errorf("start: got %q", got)
		}
		c.Unlock(20001)
		api.task("DELETE /nodes/pve/lxc/20001")
	})
}

func TestFirewallFileGoesWithItsContainer(t *testing.T) {
	bubble(t, Config{Timing: Timing{Clone: time.Second}}, func(t *testing.T, c *Cluster, api *client) {
		admin := root(c, t)
		admin.want(200, "OK", "PUT /nodes/pve/lxc/9000/firewall/options", "enable", "1", "policy_in", "DROP")
		admin.want(200, "OK", "POST /nodes/pve/lxc/9000/firewall/rules", "type", "out", "action", "DROP", "dest", "10.0.0.0/8", "enable", "1")
		cloned(t, api, "20001")
		if o := api.want(200, "OK", "GET /nodes/pve/lxc/20001/firewall/options").obj(); o["policy_in"] != "DROP" {
			t.Errorf("clone's options: got %v, want the template's", o)
		}
		for _, dest := range []string{"10.0.0.0/8,fd00::/8", "10.0.0.1/8", "10.0.0.1,,10.0.0.2", "10.0.0.1-10.0.0.9,10.1.0.1"} {
			api.want(400, "Parameter verification failed.", "POST /nodes/pve/lxc/20001/firewall/rules", "type", "out", "action", "DROP", "dest", dest)
		}
		api.want(403, "Permission check failed (/vms/9000, VM.Config.Network)", "PUT /nodes/pve/lxc/9000/firewall/options", "enable", "0")
		api.want(200, "OK", "PUT /nodes/pve/lxc/20001/firewall/options", "enable", "0")
		if o := admin.want(200, "OK", "GET /nodes/pve/lxc/9000/firewall/options").obj(); o["enable"] != 1.0 {
			t.Errorf("template's options after a change of the clone's: got %v", o)
		}
		api.task("DELETE /nodes/pve/lxc/20001")
		if o := admin.want(200, "OK", "GET /nodes/pve/lxc/20001/firewall/options").obj(); len(o) != 1 {
			t.Errorf("options after the destroy: got %v, want the digest only", o)
		}
	})
}

func TestTokenGivesOnlyWhatItHas(t *testing.T) {
	bubble(t, Config{Timing: Timing{Clone: time.Second}}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		const acl = "PUT /access/acl"
		api.want(403, "Permission check failed (/vms/9000, Permissions.Modify|VM.Allocate)", acl, "path", "/vms/9000", "roles", "PVETemplateUser", "users", "dayfly@pve")
		a := api.want(400, "", acl, "path", "/vms/20001", "roles", "PVEVMAdmin", "users", "dayfly@pve")
		if want := "Cannot add role 'PVEVMAdmin' - requires 'Permissions.Modify' or superset of privileges."; a.errors["role"] != want {
			t.Errorf("role beyond its own: got %v, want %s", a.errors, want)
		}
		api.want(200, "OK", acl, "path", "/vms/20001", "roles", "DayflyRunners", "users", "dayfly@pve", "propagate", "0")
		api.task("DELETE /nodes/pve/lxc/20001")
		if _, left := c.access.acl["/vms/20001"]; left {
			t.Error("ACL of a destroyed container is still there")
		}
	})
}

func TestRebootAppliesWhatIsPending(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		api.want(500, "VM 20001 not running", "POST /nodes/pve/lxc/20001/status/reboot")
		api.task("POST /nodes/pve/lxc/20001/status/start")
		api.want(200, "OK", "PUT /nodes/pve/lxc/20001/config", "env", "A=1", "nameserver", "10.0.0.1")
		if k, _ := c.Container(20001); k.Pending["env"] != "A=1" || k.Config["nameserver"] != "" {
			t.Errorf("running: got pending %v, want both to wait", k.Pending)
		}
		if got := api.task("POST /nodes/pve/lxc/20001/status/reboot"); got != "OK" {
			t.Fatalf("reboot: got %q", got)
		}
		if k, _ := c.Container(20001); k.Env["A"] != "1" || k.Boots != 2 || len(k.Pending) != 0 {
			t.Errorf("after the reboot: got env %v, boots %d, pending %v", k.Env, k.Boots, k.Pending)
		}
	})
}

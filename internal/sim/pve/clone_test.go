package pve

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a test of a slow lab in virtual time.
func bubble(t *testing.T, cfg Config, fn func(t *testing.T, c *Cluster, api *client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if cfg.Timing == (Timing{}) {
			cfg.Timing = slow
		}
		c, api := lab(t, cfg)
		fn(t, c, api)
	})
}

// root is a client with a token of root@pam that has all its rights.
func root(c *Cluster, t *testing.T) *client {
	return newClient(t, c, "root@pam!full="+c.AddToken("root@pam!full", false))
}

// cloned makes a runner and returns once it is there.
func cloned(t *testing.T, api *client, vmid string) {
	t.Helper()
	if got := api.task("POST /nodes/pve/lxc/9000/clone", "newid", vmid, "pool", LabRunners); got != "OK" {
		t.Fatalf("clone to %s: got %q, want OK", vmid, got)
	}
}

func TestSecondCloneOfASourceIsRefusedNotQueued(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		upid := api.want(200, "OK", "POST /nodes/pve/lxc/9000/clone", "newid", "20001", "pool", LabRunners).str()
		time.Sleep(time.Second)
		begin := time.Now()
		api.want(500, "CT is locked (disk)", "POST /nodes/pve/lxc/9000/clone", "newid", "20002", "pool", LabRunners)
		if d := time.Since(begin); d != 0 {
			t.Errorf("refusal took %v, want it at once", d)
		}
		api.wait(upid)
		cloned(t, api, "20002")
	})
}

func TestCloneIsInvisibleUntilItJoinsItsResourcePool(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		upid := api.want(200, "OK", "POST /nodes/pve/lxc/9000/clone", "newid", "20001", "pool", LabRunners).str()
		time.Sleep(time.Second)
		api.want(403, "Permission check failed (/vms/20001, VM.Audit)", "GET /nodes/pve/lxc/20001/config")
		api.want(403, "Permission check failed (/vms/20001, VM.Allocate)", "DELETE /nodes/pve/lxc/20001")
		api.want(400, "", "GET /cluster/nextid", "vmid", "20001")
		k, _ := c.Container(20001)
		if k.Lock != "create" || k.ResourcePool != "" || k.Config["rootfs"] != "" {
			t.Errorf("as root sees it: got lock %q, pool %q, rootfs %q, want a locked one in no pool, without rootfs", k.Lock, k.ResourcePool, k.Config["rootfs"])
		}
		api.wait(upid)
		api.want(200, "OK", "GET /nodes/pve/lxc/20001/config")
	})
}

func TestKilledCloneWorkerLeavesALockedOrphan(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		upid := api.want(200, "OK", "POST /nodes/pve/lxc/9000/clone", "newid", "20001", "pool", LabRunners).str()
		time.Sleep(time.Second)
		c.KillWorker(upid)
		if got := api.wait(upid); got != "unexpected status" {
			t.Errorf("exit status: got %q, want unexpected status", got)
		}
		time.Sleep(time.Hour)
		api.want(500, "CT is locked (disk)", "POST /nodes/pve/lxc/9000/clone", "newid", "20002", "pool", LabRunners)
		api.want(403, "", "DELETE /nodes/pve/lxc/20001", "force", "1")
		admin := root(c, t)
		admin.want(500, "CT is locked (create)", "DELETE /nodes/pve/lxc/20001", "force", "1")
		c.Unlock(9000)
		c.Unlock(20001)
		admin.task("DELETE /nodes/pve/lxc/20001")
		cloned(t, api, "20002")
	})
}

func TestStoppedCloneCleansUpAfterItself(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		upid := api.want(200, "OK", "POST /nodes/pve/lxc/9000/clone", "newid", "20001", "pool", LabRunners, "full", "1").str()
		time.Sleep(3 * time.Second)
		begin := time.Now()
		api.want(200, "OK", "DELETE /nodes/pve/tasks/"+upid)
		if d := time.Since(begin); d != time.Second {
			t.Errorf("stop took %v, want the second that the clean-up sleeps", d)
		}
		if got := api.wait(upid); got != "clone failed: interrupted by signal" {
			t.Errorf("exit status: got %q", got)
		}
		if _, there := c.Container(20001); there {
			t.Error("the half-made container is still there")
		}
		if v := c.Volumes(LabStorage); len(v) != 1 {
			t.Errorf("volumes: got %v, want the template's only", v)
		}
		cloned(t, api, "20001")
	})
}

func TestUserConfigLockFailsACloneLate(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		c.Hold("file-user_cfg", 20*time.Second)
		got := api.task("POST /nodes/pve/lxc/9000/clone", "newid", "20001", "pool", LabRunners)
		if want := "clone failed: can't add VM 20001 to pool 'dayfly-runners': cfs-lock 'file-user_cfg' error: got lock request timeout"; got != want {
			t.Errorf("exit status: got %q, want %q", got, want)
		}
		if _, there := c.Container(20001); there {
			t.Error("the half-made container is still there")
		}
		if k, _ := c.Container(9000); k.Lock != "" {
			t.Errorf("source: got lock %q, want none", k.Lock)
		}
	})
}

func TestCloneCopiesWhatTheTokenMayNotSet(t *testing.T) {
	bubble(t, Config{Timing: Timing{Clone: time.Second}}, func(t *testing.T, c *Cluster, api *client) {
		c.SetOption(9000, "dev0", "/dev/net/tun")
		c.SetOption(9000, "protection", "1")
		c.SetOption(9000, "tags", "family")
		cloned(t, api, "20001")
		k, _ := c.Container(20001)
		src, _ := c.Container(9000)
		for _, key := range []string{"dev0", "protection", "tags", "features", "hostname"} {
			if k.Config[key] != src.Config[key] {
				t.Errorf("%s: got %q, want the template's %q", key, k.Config[key], src.Config[key])
			}
		}
		if k.Config["net0"] == src.Config["net0"] || !strings.Contains(k.Config["net0"], "hwaddr=BC:24:11:") {
			t.Errorf("net0: got %q, want an address of its own", k.Config["net0"])
		}
		api.want(403, "Permission check failed (configuring device passthrough is only allowed for root@pam)", "PUT /nodes/pve/lxc/20001/config", "dev0", "/dev/fuse")
		api.want(500, "can't remove CT 20001 - protection mode enabled", "DELETE /nodes/pve/lxc/20001", "force", "1")
		api.want(200, "OK", "PUT /nodes/pve/lxc/20001/config", "protection", "0")
		api.task("DELETE /nodes/pve/lxc/20001")
	})
}

func TestBaseVolumeOfLinkedClonesStaysOnZFSOnly(t *testing.T) {
	bubble(t, Config{Timing: Timing{Clone: time.Second}}, func(t *testing.T, c *Cluster, api *client) {
		c.AddStorage(Storage{ID: "thin", Type: "lvmthin"})
		c.AddTemplate(Template{VMID: 9001, Storage: "thin"})
		admin := root(c, t)
		cloned(t, api, "20001")
		admin.task("POST /nodes/pve/lxc/9001/clone", "newid", "20002")
		if got := admin.task("DELETE /nodes/pve/lxc/9000"); got != "base volume 'basevol-9000-disk-0' is still in use by linked clones" {
			t.Errorf("zfspool: got %q", got)
		}
		if k, there := c.Container(9000); !there || k.Lock != "" {
			t.Errorf("zfspool: got there %t, lock %q, want the template untouched", there, k.Lock)
		}
		if got := admin.task("DELETE /nodes/pve/lxc/9001"); got != "OK" {
			t.Errorf("lvmthin: got %q, want OK, it keeps no count", got)
		}
		api.task("DELETE /nodes/pve/lxc/20001")
		if got := admin.task("DELETE /nodes/pve/lxc/9000"); got != "OK" {
			t.Errorf("zfspool without clones: got %q, want OK", got)
		}
	})
}

func TestDirectoryStorageHasNoLinkedClones(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		c.AddStorage(Storage{ID: "xfs", Type: "dir"})
		c.AddTemplate(Template{VMID: 9002, Storage: "xfs"})
		admin := root(c, t)
		admin.want(500, "Linked clone feature for 'xfs:9002/base-9002-disk-0.raw' is not available", "POST /nodes/pve/lxc/9002/clone", "newid", "20001")
		if got := admin.task("POST /nodes/pve/lxc/9002/clone", "newid", "20001", "full", "1"); got != "OK" {
			t.Errorf("full clone: got %q, want OK", got)
		}
		admin.want(500, "parameter 'storage' not allowed for linked clones", "POST /nodes/pve/lxc/9000/clone", "newid", "20002", "storage", "xfs")
	})
}

func TestReplicaOfATemplateIsASourceOfItsOwn(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, _ *client) {
		admin := root(c, t)
		admin.task("POST /nodes/pve/lxc/9000/clone", "newid", "9100")
		admin.want(200, "OK", "POST /nodes/pve/lxc/9100/template")
		time.Sleep(2 * time.Second)
		if k, _ := c.Container(9100); k.Config["rootfs"] != LabStorage+":basevol-9000-disk-0/basevol-9100-disk-0,size=4G" {
			t.Fatalf("replica's rootfs: got %q", k.Config["rootfs"])
		}
		a := admin.want(200, "OK", "POST /nodes/pve/lxc/9000/clone", "newid", "20001").str()
		b := admin.want(200, "OK", "POST /nodes/pve/lxc/9100/clone", "newid", "20002").str()
		if x, y := admin.wait(a), admin.wait(b); x != "OK" || y != "OK" {
			t.Errorf("both at once: got %q and %q, want OK", x, y)
		}
	})
}

func TestTemplateAnswersNullAndIsFoundByItsType(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cluster, api *client) {
		cloned(t, api, "20001")
		begin := time.Now()
		if a := api.want(200, "OK", "POST /nodes/pve/lxc/20001/template"); a.data != nil {
			t.Errorf("answer: got %v, want null", a.data)
		}
		rows := api.want(200, "OK", "GET /nodes/pve/tasks", "source", "all", "typefilter", "vztemplate", "vmid", "20001").rows()
		if len(rows) != 1 || rows[0].(map[string]any)["status"] != "RUNNING" {
			t.Errorf("tasks: got %v, want the one that runs", rows)
		}
		api.want(500, "you can't convert a template to a template", "POST /nodes/pve/lxc/20001/template")
		if d := time.Since(begin); d != slow.Template {
			t.Errorf("second request: answered after %v, want it to wait for the first, %v", d, slow.Template)
		}
		if got := api.task("POST /nodes/pve/lxc/20001/status/start"); got != "you can't start a CT if it's a template" {
			t.Errorf("start: got %q", got)
		}
	})
}

package pve

import (
	"testing"
	"time"
)

func TestMigration(t *testing.T) {
	bubble(t, Config{Nodes: []string{"pve", "two"}}, func(t *testing.T, c *Cluster, api *client) {
		c.AddRole("Moves", "VM.Migrate")
		c.AddStorage(Storage{ID: "other", Type: "zfspool", Nodes: []string{"two"}})
		cloned(t, api, "20001") // linked to its template
		if got := api.task("POST /nodes/pve/lxc/9000/clone", "newid", "20002", "pool", LabRunners, "full", "1"); got != "OK" {
			t.Fatalf("full clone: %s", got)
		}
		const path = "POST /nodes/pve/lxc/20002/migrate"
		api.want(403, "Permission check failed (/vms/20002, VM.Migrate)", path, "target", "two")
		c.SetACL("/pool/"+LabRunners, "Moves", true, "dayfly@pve", LabToken)
		api.want(500, "no such cluster node 'three'", path, "target", "three")
		api.want(400, "Parameter verification failed.", path, "target", "pve")
		api.want(403, "Permission check failed (/vms/20002, VM.Config.Disk)", path, "target", "two", "target-storage", "other")
		root := root(c, t)
		root.want(500, "storage 'local' does not support CT rootdirs", path, "target", "two", "target-storage", "local")
		root.want(500, "storage 'none' does not exist", path, "target", "two", "target-storage", LabStorage+":none")
		if got := api.task("POST /nodes/pve/lxc/20001/migrate", "target", "two"); got != "migration aborted" {
			t.Errorf("a linked clone was migrated: %s", got)
		}
		if k, _ := c.Container(20001); k.Node != "pve" || k.Lock != "" {
			t.Errorf("after that it is on %s with lock %q", k.Node, k.Lock)
		}
		c.SetFirewall(20002, map[string]string{"enable": "1"})
		upid := root.want(200, "OK", path, "target", "two", "target-storage", "other").str()
		time.Sleep(time.Second)
		if k, _ := c.Container(20002); k.Node != "pve" || k.Lock != "migrate" {
			t.Errorf("on its way it is on %s with lock %q, want pve and migrate", k.Node, k.Lock)
		}
		root.wait(upid)
		k, _ := c.Container(20002)
		options, _ := c.Firewall(20002)
		if k.Node != "two" || k.Lock != "" || k.ResourcePool != LabRunners || k.Config["rootfs"] != "other:subvol-20002-disk-0,size=4G" || options["enable"] != "1" {
			t.Errorf("it is on %s with lock %q in %q, its rootfs is %s, its firewall %v", k.Node, k.Lock, k.ResourcePool, k.Config["rootfs"], options)
		}
		api.task("POST /nodes/pve/lxc/20001/status/start")
		api.want(500, "can't migrate running container without --online or --restart", "POST /nodes/pve/lxc/20001/migrate", "target", "two")
	})
}

package pve

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shared is a file of the test data beside the repository; the test is skipped
// when it is not there.
func shared(t *testing.T, path ...string) string {
	t.Helper()
	root := os.Getenv("DAYFLY_SHARED")
	if root == "" {
		root = "../../../../shared"
	}
	name := filepath.Join(append([]string{root, "data", "pve"}, path...)...)
	if _, err := os.Stat(name); err != nil {
		t.Skipf("test data %s is absent: set DAYFLY_SHARED to the folder that has data/pve", name)
	}
	return name
}

// aclCluster is the access control of acl-example-user.cfg.
func aclCluster(t *testing.T, name string) *Cluster {
	c := New(Config{})
	c.AddStorage(Storage{ID: "local-zfs"})
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var later []func()
	for s := bufio.NewScanner(f); s.Scan(); {
		p := strings.Split(s.Text(), ":")
		switch p[0] {
		case "user":
			c.AddUser(p[1])
		case "token":
			c.AddToken(p[1], p[3] == "1")
		case "role":
			c.AddRole(p[1], p[2])
		case "pool":
			for _, vm := range strings.Split(p[3], ",") {
				c.AddResourcePool(p[1], atoi(vm))
			}
			if p[4] != "" {
				c.AddResourcePool(p[1], p[4])
			}
		case "acl":
			later = append(later, func() { c.SetACL(p[2], p[4], p[1] == "1", strings.Split(p[3], ",")...) })
		}
	}
	for _, fn := range later {
		fn()
	}
	return c
}

// TestACLAgreesWithProxmox holds the engine against what Proxmox's own Perl
// code answered. The file does not name a call's parameters: the three clones
// of each holder are one into its own resource pool, one with no pool, and one
// of a container outside.
func TestACLAgreesWithProxmox(t *testing.T) {
	c := aclCluster(t, shared(t, "acl-example-user.cfg"))
	f, err := os.Open(shared(t, "acl-check-results-pve9.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	checked, clones := 0, map[string]int{}
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		if who, list, ok := strings.Cut(strings.TrimPrefix(line, "--- "), " perms on /vms/90001: "); ok {
			if got := strings.Join(c.permissions(who, "/vms/90001").have.names(), ","); got != list {
				t.Errorf("permissions of %s on /vms/90001:\n got %s\nwant %s", who, got, list)
			}
			checked++
			continue
		}
		w := strings.Fields(line)
		want := "OK"
		if _, text, denied := strings.Cut(line, "DENY 403 "); denied {
			want = text
		}
		var err error
		if w[1] == "check" {
			err = c.check(w[0], w[2], w[3])
		} else {
			err = c.permitted(w[0], w[1], w[2], aclParams(w, want, clones))
		}
		got := "OK"
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
		checked++
	}
	if checked < 80 {
		t.Errorf("lines checked: got %d, want all of the file, 80 and more", checked)
	}
}

// aclParams are the parameters that a line of the file stands for.
func aclParams(w []string, want string, clones map[string]int) map[string]string {
	p := map[string]string{"node": "pve", "vmid": "90001", "storage": "local-zfs", "poolid": "dayfly", "path": "/vms/90001"}
	if strings.HasSuffix(w[2], "/clone") {
		n := clones[w[0]]
		clones[w[0]]++
		p["vmid"], p["newid"], p["pool"] = "9000", "90050", "dayfly"
		switch n {
		case 1:
			delete(p, "pool")
		case 2:
			p["vmid"] = "100"
		}
	}
	for _, id := range []string{"100", "90002"} { // containers outside of the pool
		if strings.Contains(want, "/vms/"+id+",") {
			p["vmid"] = id
		}
	}
	return p
}

// permitted runs the check of a method as a request would.
func (c *Cluster) permitted(who, verb, path string, params map[string]string) error {
	vars := map[string]string{}
	m := c.schema.find(verb, strings.Split(strings.Trim(path, "/"), "/"), vars)
	if m.perm == nil {
		return nil
	}
	r := &call{c: c, who: who, params: params}
	return r.permit(m.perm)
}

func TestUserRightsAloneGiveATokenNothing(t *testing.T) {
	c := New(Config{})
	c.AddUser("a@pve")
	c.AddToken("a@pve!sep", true)
	c.AddToken("a@pve!full", false)
	c.SetACL("/vms/100", "PVEVMAdmin", true, "a@pve")
	for who, want := range map[string]bool{"a@pve": true, "a@pve!sep": false, "a@pve!full": true} {
		if got := c.may(who, "/vms/100", privBits["VM.Clone"], false); got != want {
			t.Errorf("VM.Clone of %s: got %t, want %t", who, got, want)
		}
	}
	c.SetACL("/vms/100", "PVETemplateUser", true, "a@pve!sep")
	if got, want := strings.Join(c.permissions("a@pve!sep", "/vms/100").have.names(), " "), "VM.Audit VM.Clone"; got != want {
		t.Errorf("both granted: got %q, want %q", got, want)
	}
}

func TestTokenOfRootNeedsOnlyItsOwnACL(t *testing.T) {
	c := New(Config{})
	c.AddToken("root@pam!sep", true)
	c.SetACL("/", "PVETemplateUser", true, "root@pam!sep")
	if err := c.check("root@pam!sep", "/vms/1", "VM.Clone"); err != nil {
		t.Error(err)
	}
	if c.check("root@pam!sep", "/vms/1", "VM.Allocate") == nil {
		t.Error("VM.Allocate: got it, want only what the token was given")
	}
}

func TestNestedResourcePoolInheritsItsParents(t *testing.T) {
	c := New(Config{})
	c.AddUser("a@pve")
	c.AddStorage(Storage{ID: "s"})
	c.AddResourcePool("top")
	c.AddResourcePool("top/runners", 101, "s")
	c.SetACL("/pool/top", "PVEVMUser", true, "a@pve")
	c.SetACL("/pool/top/runners", "PVEDatastoreUser", false, "a@pve")
	if c.check("a@pve", "/vms/101", "VM.PowerMgmt") == nil {
		t.Error("VM.PowerMgmt: got it, want the nested pool's own ACL to replace its parent's")
	}
	if err := c.check("a@pve", "/storage/s", "Datastore.AllocateSpace"); err != nil {
		t.Error(err)
	}
	c.RevokeACL("/pool/top/runners", "PVEDatastoreUser", "a@pve")
	if err := c.check("a@pve", "/vms/101", "VM.PowerMgmt"); err != nil {
		t.Error(err)
	}
	c.SetACL("/vms/101", "NoAccess", false, "a@pve")
	if c.check("a@pve", "/vms/101", "VM.PowerMgmt") == nil {
		t.Error("VM.PowerMgmt: got it, want NoAccess on the container to beat its resource pool")
	}
}

func TestPropagateDecidesBelowAPath(t *testing.T) {
	c := New(Config{})
	c.AddUser("a@pve")
	c.AddUser("b@pve", "staff")
	c.SetACL("/sdn/zones/localnetwork/vmbr0", "PVESDNUser", false, "a@pve")
	c.SetACL("/vms", "PVEVMUser", true, "@staff")
	if err := c.check("a@pve", "/sdn/zones/localnetwork/vmbr0", "SDN.Use"); err != nil {
		t.Error(err)
	}
	if c.check("a@pve", "/sdn/zones/localnetwork/vmbr0/30", "SDN.Use") == nil {
		t.Error("SDN.Use on the VLAN: got it, want it not to propagate")
	}
	if err := c.check("b@pve", "/vms/100", "VM.Console"); err != nil {
		t.Error("group:", err)
	}
	c.SetACL("/vms/100", "PVETemplateUser", true, "b@pve")
	if c.check("b@pve", "/vms/100", "VM.Console") == nil {
		t.Error("VM.Console: got it, want the user's own ACL to replace the group's above")
	}
}

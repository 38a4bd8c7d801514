package host

import (
	"strings"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// published keeps the files of /etc/pve of a simulated cluster.
type published struct {
	pve.Machine // nothing runs
	files       map[string]string
}

func (p published) Publish(name, text string) { p.files[name] = text }

// TestFilesOfTheSimulatedClusterAreUnderstood reads what somebody else wrote
// after Proxmox.
func TestFilesOfTheSimulatedClusterAreUnderstood(t *testing.T) {
	m := published{files: map[string]string{}}
	c := pve.New(pve.Config{Machine: m})
	defer c.Close()
	pve.Lab(c)
	manifest := fleet.Manifest{Schema: 1, Name: testName, Pool: "linux", Scope: "acme/app", VMID: 20001, Node: "pve"}
	c.AddContainer(pve.Container{
		VMID: 20001, ResourcePool: pve.LabRunners, Storage: pve.LabStorage,
		Config: map[string]string{
			"hostname": testName, "description": manifest.Sign(testKey), "net0": "name=eth0,bridge=vmbr0,firewall=1,type=veth",
		},
	})
	c.Unlock(20001) // tells it
	conf := parseConf(20001, m.files["nodes/pve/lxc/20001.conf"])
	if _, err := fleet.ReadManifest(conf.description, testKey, 20001, conf.name); err != nil {
		t.Errorf("%v in\n%s", err, m.files["nodes/pve/lxc/20001.conf"])
	}
	if len(conf.firewall) != 1 || conf.firewall[0] != "veth20001i0" {
		t.Errorf("interfaces: %q", conf.firewall)
	}
	if !parseMembers(m.files["user.cfg"], pve.LabRunners)[20001] {
		t.Errorf("20001 is in no resource pool in\n%s", strings.TrimSpace(m.files["user.cfg"]))
	}
}

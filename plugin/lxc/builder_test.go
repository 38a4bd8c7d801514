package lxc

import (
	"strings"
	"testing"

	registryimage "github.com/hashicorp/packer-plugin-sdk/packer/registry/image"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

func TestBuildMakesAReadyTemplate(t *testing.T) {
	w := newWorld(t, pve.Config{})
	a := w.mustBuild()
	w.left(1)
	c, ok := w.sim.Container(int(a.VMID))
	if !ok || !c.Template() {
		t.Fatalf("container %d: there %v, template %v", a.VMID, ok, c.Template())
	}
	if got, want := c.Config["tags"], "dayfly-state.ready;dayfly-template;fam.debian-13;ver.1.0.0-1"; got != want {
		t.Errorf("tags are %q, want %q", got, want)
	}
	if got, want := c.Config["features"], "nesting=1"; got != want {
		t.Errorf("features are %q, want %q", got, want)
	}
	if c.ResourcePool != pve.LabTemplates {
		t.Errorf("it is in resource pool %q, want %q", c.ResourcePool, pve.LabTemplates)
	}
	info := w.manifest(int(a.VMID))
	if info.State != "ready" || info.Smoke != "passed: 0 commands" || info.StorageType != "zfspool" || info.Source != pve.LabBase || info.Commit != "0123abc" ||
		info.Features != "nesting=1" || info.By != "" || info.BuiltAt.IsZero() || info.Build == "" {
		t.Errorf("manifest is %+v", info)
	}
	if got, want := a.Id(), "pve:debian-13@1.0.0-1#100"; got != want {
		t.Errorf("artifact id is %q, want %q", got, want)
	}
	image := a.State(registryimage.ArtifactStateURI).(*registryimage.Image)
	if err := image.Validate(); err != nil || image.ProviderRegion != "pve" || image.SourceImageID != pve.LabBase || image.Labels["family"] != "debian-13" {
		t.Errorf("HCP image is %+v (%v)", image, err)
	}
	if err := a.Destroy(); err != nil {
		t.Error(err)
	}
	w.left(1)
}

// A task that ended well is waited for once: to stop it would take a request,
// and as long again as it took.
func TestNoTaskIsStoppedThatEndedWell(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.mustBuild()
	for _, line := range w.lines {
		if strings.HasPrefix(line, "DELETE ") && strings.Contains(line, "/tasks/") {
			t.Errorf("the build sent %s", line)
		}
	}
}

func TestReadsLikeTheDaemon(t *testing.T) {
	w := newWorld(t, pve.Config{})
	a := w.mustBuild()
	c, _ := w.sim.Container(int(a.VMID))
	info, err := proxmox.ReadTemplate(c.Config["description"])
	if err != nil || info.Ref().String() != "debian-13@1.0.0-1" {
		t.Errorf("manifest names %s (%v)", info.Ref(), err)
	}
	if !strings.HasPrefix(c.Config["description"], "Template debian-13@1.0.0-1") {
		t.Errorf("description begins with %.40q", c.Config["description"])
	}
}

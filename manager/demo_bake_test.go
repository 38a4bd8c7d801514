package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/test/packertool"
	"github.com/dayfly-ci/dayfly/test/programs"
)

// The whole loop: packer bakes, the post-processor commits, the daemon rolls
// its spares, and jobs run on what was baked.
func TestDemoBeginsWithABake(t *testing.T) {
	packer := packertool.Path(t)
	if testing.Short() {
		t.Skip("a day takes half a minute")
	}
	dayfly, tmp := programs.Path(t, programs.Dayfly), t.TempDir()
	programs.Path(t, programs.Plugin) // beside it, as make build leaves them
	var out, said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), dayfly, "demo", "--jobs", "16", "--seed", "3", "--packer", packer)
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	if err := cmd.Run(); err != nil {
		t.Fatalf("dayfly demo: %v\n%s%s", err, out.String(), said.String())
	}
	text := out.String()
	// Each of them happens after the one before it.
	for _, want := range []string{
		"ubuntu-24.04@2.335.1-1\n", "pve1: Looking at node pve1", "It passed its smoke test",
		"sets template ubuntu-24", "2.335.1-2: smoke: ", "running      job 1", "2.335.1-2: canary 1: ",
		"a spare of ubuntu-24.04@2.335.1-1, but the pool uses ubuntu-24.04@2.335.1-2", "2.335.1-2: bake: ", "2.335.1-2: stable: ",
		"2.335.1-3: canary 1: ", "refused      linux.hcl:", "2.335.1-3: rolled back to ubuntu-24.04@2.335.1-2: ", "evening: ",
	} {
		_, rest, ok := strings.Cut(text, want)
		if !ok {
			t.Fatalf("not in its place: %q\n%s", want, out.String())
		}
		text = rest
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("the demo left %v, %v", left, err)
	}
}

func TestDemoSaysWhyItCannotBake(t *testing.T) {
	_, err := besideUs("no-such-program")
	if err == nil || !strings.Contains(err.Error(), "find no-such-program") || hintOf(err) == "" {
		t.Errorf("without the plugin: got %v, want an error with a hint", err)
	}
	if _, err := locate(filepath.Join(t.TempDir(), "packer")); err == nil || !strings.Contains(err.Error(), "find packer") {
		t.Errorf("without packer: got %v", err)
	}
}

func TestDemoRepositoryTakesCommitsOfOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pools.git")
	r, err := newDemoRepo(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.edit(context.Background(), "no such block", map[string][]setting{"linux.hcl": {{path: []string{"pool none"}}}}); err == nil {
		t.Error("an edit of a block that is not there succeeded")
	}
	if _, err := os.Stat(dir + ".desk"); !os.IsNotExist(err) {
		t.Errorf("the first commit's files are still there: %v", err)
	}
}

func TestBakeThatLeavesAContainerIsNoticed(t *testing.T) {
	d := &demo{o: demoOptions{seed: 1}, apis: map[string]string{}}
	d.makeWorld()
	if err := d.learnBaked(); err == nil || !strings.Contains(err.Error(), "made no template") {
		t.Errorf("nothing baked: got %v", err)
	}
	d.world.Proxmox.AddContainer(pve.Container{VMID: 100, Node: "pve1", ResourcePool: pve.LabTemplates, Storage: pve.LabStorage})
	if err := d.learnBaked(); err == nil || !strings.Contains(err.Error(), "left container 100 on node pve1") {
		t.Errorf("a container left: got %v", err)
	}
}

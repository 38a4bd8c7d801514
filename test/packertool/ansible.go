package packertool

import (
	"context"
	"os/exec"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/sim/lab"
)

// ansible is the plugin that has the provisioner ansible.
var ansible = module{
	name: "packer-plugin-ansible", path: "github.com/hashicorp/packer-plugin-ansible", version: "v1.1.2",
	sum: "h1:J4xtCW9jAgIWHbJKpDiNwhRuaf9EjwMv/Hj25qIvWMg=",
}

// BuildAnsible makes the plugin with the provisioner ansible, into
// build/tools, unless it is there.
func BuildAnsible(ctx context.Context) (string, error) { return ansible.build(ctx) }

// InstallAnsible adds the provisioner ansible. Where it, or a program that it
// runs, is not there, the test is skipped, or fails where nothing may be.
func (h *Home) InstallAnsible(t testing.TB) {
	t.Helper()
	give := t.Skipf
	if lab.Required() {
		give = t.Fatalf
	}
	for _, program := range []string{"ansible-playbook", "ssh"} {
		if _, err := exec.LookPath(program); err != nil {
			give("the provisioner ansible runs the real ansible-playbook and ssh: %v", err)
		}
	}
	plugin, err := ansible.file()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath(plugin); err != nil {
		give(`there is no plugin ansible: run "make packer": %v`, err)
	}
	if err := h.add(t.Context(), plugin, "github.com/hashicorp/ansible"); err != nil {
		t.Fatal(err)
	}
}

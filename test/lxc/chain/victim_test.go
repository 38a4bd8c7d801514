package chain

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/test/lxc/node"
)

// victim, in the environment, makes the test program one that is killed.
const victim = "DAYFLY_TEST_VICTIM"

func TestMain(m *testing.M) {
	if os.Getenv(victim) == "" {
		os.Exit(m.Run())
	}
	os.Exit(lab.Main(func() int {
		if err := waitInside(); err != nil {
			fmt.Println(err)
		}
		return 1 // it was not killed
	}))
}

const aContainerRuns = "a container runs"

// waitInside starts a container in the sandbox and waits to be killed.
func waitInside() error {
	w, err := node.New(sim.Config{})
	if err != nil {
		return err
	}
	if err := w.MakeTemplate(9000, node.BaseImage, pve.LabStorage, nil); err != nil {
		return err
	}
	g, err := w.Clone(9000)
	if err != nil {
		return err
	}
	if err := g.Start(); err != nil {
		return err
	}
	if _, err := g.Exec(context.Background(), "true"); err != nil {
		return err
	}
	fmt.Println(aContainerRuns)
	select {}
}

// test prepares a test program that makes a sandbox for itself.
func test(t *testing.T) (*exec.Cmd, *spoken) {
	t.Helper()
	if err := lab.Missing(); err != nil {
		lab.Lacking(t, err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(victim, "1")
	return program(t, self)
}

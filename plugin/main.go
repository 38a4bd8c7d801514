// Command packer-plugin-dayfly is the Packer plugin that bakes versioned
// templates of Proxmox VE containers.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/packer-plugin-sdk/plugin"

	"github.com/dayfly-ci/dayfly/plugin/lxc"
	"github.com/dayfly-ci/dayfly/plugin/promote"
	"github.com/dayfly-ci/dayfly/plugin/prune"
	"github.com/dayfly-ci/dayfly/plugin/release"
	"github.com/dayfly-ci/dayfly/plugin/runner"
	"github.com/dayfly-ci/dayfly/plugin/template"
)

func main() {
	// Packer may be killed, or its terminal closed. The signal for that, or the
	// next line for Packer's log, would then kill us too, and what the build has
	// made would stay; so it is caught, the write fails, the build halts, and its
	// clean-up runs. Nobody reads the channel. To ignore the signals instead would
	// have every command of the build ignore them too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE, syscall.SIGHUP)

	set := plugin.NewSet()
	set.SetVersion(version())
	register(set)
	if err := set.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// register names the components: in a template, dayfly- comes before each.
func register(set *plugin.Set) {
	set.RegisterBuilder("lxc", new(lxc.Builder))
	set.RegisterProvisioner("runner", new(runner.Provisioner))
	set.RegisterDatasource("runner-release", new(release.Datasource))
	set.RegisterDatasource("template", new(template.Datasource))
	set.RegisterPostProcessor("promote", new(promote.PostProcessor))
	set.RegisterPostProcessor("prune", new(prune.PostProcessor))
}

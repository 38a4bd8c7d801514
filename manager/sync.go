package main

import (
	"cmp"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/dayfly-ci/dayfly/internal/daemon"
)

// adminSocket is where a daemon under systemd listens for the command line.
const adminSocket = "/run/dayfly/dayfly.sock"

func defaultSocket() string { return cmp.Or(os.Getenv("DAYFLY_SOCKET"), adminSocket) }

func (p *program) syncCommand() *cobra.Command {
	return p.asks(&cobra.Command{
		Use:   "sync",
		Short: "make the daemon look at everything now",
		Long: `Make the daemon look at everything now: pools, containers, registrations, jobs
and what is granted, and try again what failed. It does so by itself; this only
saves waiting.`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := daemon.Dial(p.socket).Sync(cmd.Context()); err != nil {
				return err
			}
			_, err := fmt.Fprintln(p.out, "the daemon looks at everything now")
			return err
		},
	})
}

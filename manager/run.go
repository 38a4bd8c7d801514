package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (p *program) runCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "run the daemon",
		Long: `Run the daemon until it is told to stop (SIGTERM or SIGINT).

It serves GitHub's deliveries at /webhook, /healthz, /readyz and /metrics on
the listening address, and the other commands on the admin socket. Both may
come from systemd by socket activation. Nothing is lost when it is killed:
what exists is found again at the next start.

The state directory holds the journal and instance.key, which proves what is
this dayfly's: back it up. A daemon whose key is gone or another one does not
start; moved away together with journal.db*, it is made anew, and what the old
one made must be removed by hand.

Secrets are read from files that only their owner can read, or from systemd
credentials; never from flags or the environment.`,
		GroupID: groupServe,
		Args:    takes(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.serve(cmd.Context(), path) },
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "the daemon's configuration, a `FILE`")
	return cmd
}

// moreHeap lets the heap grow to three times what lives in it before garbage is
// collected, where Go's way is twice: half the collections, for 2 MB more at
// rest and 5 MB at work. GOGC in the environment says otherwise.
func moreHeap() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
}

// serve runs the daemon that the configuration at path describes.
func (p *program) serve(ctx context.Context, path string) (err error) {
	c, err := p.loadConfig(path)
	if err != nil {
		return err
	}
	moreHeap()
	log := newLog(p.err, c.Daemon.Level, c.Daemon.LogFormat)
	parts, err := c.open(ctx, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parts.close()) }()
	log.Info("dayfly starts", "version", thisVersion().Version, "config", path, "pools", parts.source.String(),
		"listen", parts.public.Addr().String(), "socket", parts.admin.Addr().String())
	err = parts.run(ctx)
	log.Info("dayfly stopped")
	return err
}

// loadConfig reads a configuration with its secrets, all of which must be
// there, and prints what is wrong with it.
func (p *program) loadConfig(path string) (*config, error) {
	c, diags, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	if !diags.list.HasErrors() {
		c.readSecrets(diags, os.Getenv("CREDENTIALS_DIRECTORY"), true)
	}
	if n := len(diags.list); n > 0 {
		if err := diags.write(p.err, styleOf(p.err)); err != nil {
			return nil, err
		}
		return nil, hinted{fmt.Errorf("configuration %s: %s", path, plural(n, "error")),
			fmt.Sprintf(`check it with "dayfly validate --config %s"`, path)}
	}
	return c, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// demoOptions are the flags of "dayfly demo".
type demoOptions struct {
	seed   uint64
	jobs   int
	hold   bool
	packer string // path; empty: no bake

	containers string // what they are made of: simulated or lxc
}

// errDemo is the verdict that the day did not end as it must. The summary says
// how.
var errDemo = errors.New("the day did not end as it must")

func (p *program) demoCommand() *cobra.Command {
	var o demoOptions
	cmd := p.reads(&cobra.Command{
		Use:   "demo",
		Short: "play a day of jobs against a simulated Proxmox and GitHub",
		Long: `Play a day of jobs on this machine, with nothing installed and nothing left
behind: a simulated Proxmox VE and a simulated GitHub on loopback sockets, a git
repository made from the example pools, and the very daemon that "dayfly run"
starts, in a process of its own.

Jobs come alone and in a burst; a webhook is lost, one comes twice, one comes
after its job is over; a job is cancelled while its container boots; another
program's runner takes a job; a clone fails; a runner never registers; a commit
raises a pool's max; the daemon is killed and started again. A good version of
the template is rolled out beside all that; a bad one is rolled back by itself;
a broken pool file and a forced push are refused.

With --packer the day begins with a bake: "packer build" makes a new version of
the template on the simulated Proxmox, with the plugin that is beside dayfly;
its last step commits the version to the pools, and the daemon rolls to it.

With --containers lxc the containers are real ones of this machine, in a sandbox
that leaves nothing behind: a real bake, real jobs with Docker in them, and a
stub in the place of GitHub's runner. It needs root, LXC and a minute for a base
image, once.

The journal is printed as it grows, and a table at the end. The exit code is 0
only if every job ended once, nothing is left, nothing live was killed, the bad
version was rolled back, and nothing that had to be refused was in force.`,
		Example: `  dayfly demo --jobs 60 --seed 7
  dayfly demo --hold        keep everything up afterwards, to play with`,
		GroupID: groupServe,
		Args:    takes(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.demo(cmd.Context(), o) },
	})
	cmd.Flags().Uint64Var(&o.seed, "seed", 1, "`N` that the day's chance comes from")
	cmd.Flags().IntVar(&o.jobs, "jobs", 40, "how many jobs the day has, at least 16")
	cmd.Flags().StringVar(&o.packer, "packer", "", "`PATH` of packer, to begin the day with a bake")
	cmd.Flags().StringVar(&o.containers, "containers", "simulated", "`KIND` of containers: simulated or lxc")
	cmd.Flags().BoolVar(&o.hold, "hold", false, "keep the world and the daemon up after the day, until interrupted")
	return cmd
}

// demoLimit bounds a demo: a day that does not end is a failure.
const demoLimit = 10 * time.Minute

func (p *program) demo(ctx context.Context, o demoOptions) error {
	switch {
	case o.jobs < minDayJobs:
		return usageError{fmt.Errorf("a day has at least %d jobs, not %d", minDayJobs, o.jobs)}
	case o.containers == "lxc":
		return p.demoLXC(ctx, o)
	case o.containers != "simulated":
		return usageError{fmt.Errorf("--containers %q: simulated or lxc", o.containers)}
	}
	return p.playDay(ctx, o, demoLimit)
}

// real reports whether the containers are.
func (d *demo) real() bool { return d.o.containers == "lxc" }

// playDay plays one day, from the making of its world to the verdict.
func (p *program) playDay(ctx context.Context, o demoOptions, limit time.Duration) (err error) {
	d, err := openDemo(p, o)
	if err != nil {
		return fmt.Errorf("set up the demo: %w", err)
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.startDaemon(ctx); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	play := d.day
	if d.real() {
		play = d.lxcDay
	}
	if err := play(bounded); err != nil {
		return err
	}
	if o.hold {
		d.holdUp(ctx)
		// What was interrupted is the holding: the evening still follows.
		bounded, cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
	}
	if err := d.evening(bounded); err != nil {
		return err
	}
	s, err := d.summary(bounded)
	if err != nil {
		return err
	}
	if err := d.printSummary(s); err != nil {
		return err
	}
	if !s.good() {
		return hinted{errDemo, d.lastWords()}
	}
	return nil
}

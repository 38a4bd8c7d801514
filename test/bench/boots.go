package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/test/lxc/node"
)

// lxcShare bounds how long rounds are begun, as share does elsewhere.
const lxcShare = 100 * time.Second

// boots measures single jobs on a stopped spare and on a warm container, from
// the daemon's decision until the runner's program is executed, beside what
// lxc-start alone takes to bring the same baked container as far, and the boot
// of the unmodified base image. All four take turns, so that all see the same
// machine.
func (b *bench) boots(ctx context.Context, s *site, o order) (results, error) {
	var spare, warm, bare, stock sample
	var memory []float64
	var jobs [][]stage
	for i, began := 0, time.Now(); i < o.Rounds && (i == 0 || time.Since(began) < lxcShare); i++ {
		vmid, err := s.ready(ctx)
		if err != nil {
			return nil, err
		}
		used, err := idleMemory(vmid)
		if err != nil {
			return nil, err
		}
		memory = append(memory, used)
		took, err := s.bareBoot(ctx)
		if err != nil {
			return nil, err
		}
		bare = append(bare, took)
		if err := rest(ctx); err != nil {
			return nil, err
		}
		one, err := s.serve(ctx, "spare")
		if err != nil {
			return nil, err
		}
		spare, jobs = append(spare, one.took), append(jobs, one.stages)
		if err := rest(ctx); err != nil {
			return nil, err
		}
		if took, err = s.stockBoot(ctx); err != nil {
			return nil, err
		}
		stock = append(stock, took)
		if _, err := s.ready(ctx); err != nil {
			return nil, err
		}
		if one, err = s.serve(ctx, "warm"); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(one.stages, func(s stage) bool { return s.Name == systemdRuns }) {
			return nil, errors.New("the job did not run in the container that was warm: it booted after its webhook had come")
		}
		warm = append(warm, one.took)
		fmt.Fprintf(b.progress, "  lxc-start alone %.0f ms, spare %.0f ms, warm %.1f ms, base image %.0f ms, warm and idle %.1f MB\n",
			milliseconds(bare[i]), milliseconds(spare[i]), milliseconds(warm[i]), milliseconds(stock[i]), memory[i])
	}
	b.stages = typical(jobs)
	return results{
		"spare_over_bare": {median(paired(spare, bare)), 1, fmt.Sprintf("%.0f ms; lxc-start alone %.0f ms; %d jobs", spare.median(), bare.median(), len(spare))},
		"warm_ms":         {warm.median(), bare.median(), fmt.Sprintf("lxc-start alone; %d jobs", len(warm))},
		"boot_over_stock": {median(paired(bare, stock)), 1, fmt.Sprintf("%.0f ms; the base image to multi-user.target %.0f ms", bare.median(), stock.median())},
		"warm_rss_mb":     {median(memory), 0, "anonymous memory and mapped files of its cgroup"},
	}, nil
}

// paired is what each of one sample took over its neighbour in time in the other:
// the machine's own speed changes within a run.
func paired(a, b sample) []float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i].Seconds() / b[i].Seconds()
	}
	return ratios
}

// ready waits until a spare is there and a warm container has booted and
// settled, and returns which one that is.
func (s *site) ready(ctx context.Context) (warm int, err error) {
	booted := 0
	err = wait(ctx, "a spare and a warm container are there", func() bool {
		stopped := 0
		warm = 0
		for _, c := range s.Proxmox.Containers() {
			switch {
			case c.Template():
			case c.Status == "running":
				warm = c.VMID
			default:
				stopped++
			}
		}
		if warm == 0 || stopped != 1 || s.meter.quiet() < calm {
			return false
		}
		if booted != warm {
			g := &node.Guest{W: s.node, VMID: warm}
			out, _ := g.Exec(ctx, "systemctl is-active dayfly-runner.service docker.socket multi-user.target; ip route show default")
			if strings.HasPrefix(out, "active\nactive\nactive\ndefault ") {
				booted = warm
			}
		}
		return booted == warm && s.meter.quiet() > settled
	})
	return warm, err
}

// settled is how long nothing was asked of Proxmox before a measurement.
const settled = time.Second

// rest is for the disk, which is still at work on what was destroyed last.
func rest(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(settled):
		return nil
	}
}

// idleMemory is what a container needs that does nothing: its processes' own
// memory and what they have mapped of files, in megabytes. What the kernel
// keeps of files that were read is not needed, and given up on demand.
func idleMemory(vmid int) (float64, error) {
	text, err := os.ReadFile(filepath.Join(lab.Group(vmid, "memory"), "memory.stat"))
	if err != nil {
		return 0, fmt.Errorf("read idle memory: %w", err)
	}
	sum, found := 0.0, 0
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "anon", "file_mapped", "total_rss", "total_mapped_file": // of either version of cgroups
			bytes, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, fmt.Errorf("read idle memory: %w", err)
			}
			sum, found = sum+bytes, found+1
		}
	}
	if found != 2 {
		return 0, fmt.Errorf("read idle memory: %d of 2 fields in memory.stat", found)
	}
	return sum / (1 << 20), nil
}

// bare prepares a container that lxc-start alone is to start, with a config.
func (s *site) bare() (*node.Guest, *lab.Bare, error) {
	g, err := s.node.Clone(bakedTemplate)
	if err != nil {
		return nil, nil, err
	}
	b, err := g.Bare(s.GitHub.Mint(node.Scope, g.Name, append(labels[:3:3], "bare")...))
	return g, b, err
}

// bareBoot is a container that lxc-start alone starts, with its config there
// from the beginning: from the order to start on until its runner is started.
func (s *site) bareBoot(ctx context.Context) (took time.Duration, err error) {
	g, b, err := s.bare()
	if err != nil {
		return 0, err
	}
	id := s.job("bare")
	began := node.Clock()
	if err := b.Start(); err != nil {
		return 0, err
	}
	if err := errors.Join(s.over(ctx, id), b.Wait()); err != nil {
		return 0, err
	}
	times, err := s.told(id)
	return times["runner"] - began, errors.Join(err, g.Destroy())
}

// stockBoot is the same of the unmodified base image, until multi-user.target.
func (s *site) stockBoot(ctx context.Context) (took time.Duration, err error) {
	g, err := s.node.Clone(stockTemplate)
	if err != nil {
		return 0, err
	}
	b, err := g.Bare("")
	if err != nil {
		return 0, err
	}
	began := node.Clock()
	if err := b.Start(); err != nil {
		return 0, err
	}
	var micros int64
	// Who looks disturbs: the first look is when it should be up.
	for look := time.Second; micros == 0; look = 100 * time.Millisecond {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(look):
		}
		out, _ := g.Exec(ctx, "systemctl show --value --property ActiveEnterTimestampMonotonic multi-user.target")
		micros, _ = strconv.ParseInt(out, 10, 64)
		if node.Clock()-began > patience {
			return 0, fmt.Errorf("the base image does not boot: %s", out)
		}
	}
	return time.Duration(micros)*time.Microsecond - began, errors.Join(b.Kill(), g.Destroy())
}

// served is one job that the daemon served.
type served struct {
	took   time.Duration // from the decision on until the runner was started
	stages []stage
}

// serve has the daemon serve a job in a pool that is ready for it.
func (s *site) serve(ctx context.Context, pool string) (served, error) {
	id := s.job(pool)
	if err := s.over(ctx, id); err != nil {
		return served{}, err
	}
	times, err := s.told(id)
	if err != nil {
		return served{}, err
	}
	var detail daemon.JobDetail
	err = wait(ctx, "the job's container is gone", func() bool {
		detail, err = s.admin.Job(ctx, fleet.JobID(id))
		return err == nil && happened(detail.Timeline, "destroyed")
	})
	if err != nil {
		return served{}, err
	}
	return account(detail.Timeline, times)
}

func happened(timeline []daemon.Event, what string) bool {
	return slices.ContainsFunc(timeline, func(e daemon.Event) bool { return e.What == what })
}

const systemdRuns = "systemd runs" // a stage

// account makes stages of a job's timeline and of what its guest said.
func account(timeline []daemon.Event, guest map[string]time.Duration) (served, error) {
	var decided, delivered time.Time
	for _, e := range timeline {
		switch {
		case e.What == "decided" && strings.HasPrefix(e.Detail, "launch: "):
			decided = e.At
		case e.What == "delivered" && delivered.IsZero():
			delivered = e.At
		}
	}
	if decided.IsZero() || delivered.IsZero() {
		return served{}, fmt.Errorf("the timeline has no decision or no delivery: %+v", timeline)
	}
	one := served{took: node.When(guest["runner"]).Sub(decided)}
	add := func(name string, at time.Time, who string) {
		if !at.Before(delivered) && !slices.ContainsFunc(one.stages, func(s stage) bool { return s.Name == name }) {
			one.stages = append(one.stages, stage{name, milliseconds(at.Sub(delivered)), who})
		}
	}
	for _, e := range timeline {
		if e.What != "decided" || e.At.Equal(decided) {
			add(e.What, e.At, "journal")
		}
	}
	for name, what := range map[string]string{"init": systemdRuns, "waiting": "config is waited for", "runner": "runner's program runs"} {
		add(what, node.When(guest[name]), "guest")
	}
	return one, nil
}

// typical is the median of each stage over all jobs, in order of time.
func typical(jobs [][]stage) []stage {
	times, who := map[string][]float64{}, map[string]string{}
	for _, list := range jobs {
		for _, s := range list {
			times[s.Name], who[s.Name] = append(times[s.Name], s.At), s.Who
		}
	}
	var list []stage
	for name, at := range times {
		if len(at) == len(jobs) {
			list = append(list, stage{name, median(at), who[name]})
		}
	}
	slices.SortFunc(list, func(a, b stage) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Name, b.Name)) })
	return list
}

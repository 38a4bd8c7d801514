// Command bench measures dayfly against the goals it was built for: the
// daemon's own binary in a process of its own, in a simulated world on
// loopback sockets, beside the least that the same work costs by hand. It
// prints a table and writes it as JSON.
//
// A goal that is missed is said so; the exit code is 0 unless something could
// not be measured (or -strict is given).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dayfly-ci/dayfly/test/packertool"
	"github.com/dayfly-ci/dayfly/test/programs"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == insideCommand {
		os.Exit(inside(os.Args[2]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], full, os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		stop()
		os.Exit(1)
	}
}

// size is how much is measured.
type size struct {
	rounds      int
	spareJobs   int // a round
	coldJobs    int
	burstJobs   int
	burstRounds int
	slotJobs    int
	deliveries  int           // a round
	paced       int           // a round
	syncs       int           // a round
	planning    time.Duration // with each number of runners
	loadJobs    int
	idle        time.Duration // at least
	baking      baking
	lxcRounds   int
	storm       int // containers at once
	storms      int
}

var full = size{
	rounds: 3, spareJobs: 60, coldJobs: 8, burstJobs: 100, burstRounds: 2, slotJobs: 80,
	deliveries: 9000, paced: 5000, syncs: 300, planning: 1500 * time.Millisecond, loadJobs: 1000, idle: time.Minute, baking: oven,
	lxcRounds: 13, storm: 16, storms: 5,
}

// bench is one run.
type bench struct {
	size        size
	dir         string // on a real disk
	sockets     string // a short path
	program     string // dayfly
	bareProgram string
	progress    io.Writer
	folders     int
	chosen      map[string]bool
	stages      []stage // of one job on real containers
}

// share bounds how long an experiment goes on beginning rounds. One round is
// always made: a busy machine makes fewer rounds, not a longer run.
const share = 40 * time.Second

// again reports whether a round more is to be made.
func again(done, rounds int, began time.Time) bool {
	return done < rounds && (done == 0 || time.Since(began) < share)
}

// experiment measures some figures together.
type experiment struct {
	names []string
	run   func(*bench, context.Context) (results, error)
}

var experiments = []experiment{
	{[]string{"webhook_to_start_p50_ms", "webhook_to_start_p99_ms", "completed_to_destroy_ms"}, (*bench).spare},
	{[]string{"cold_over_bare"}, (*bench).cold},
	{[]string{"burst_over_bound", "serial_over_burst"}, (*bench).burst},
	{[]string{"deliveries_per_second", "delivery_p99_ms"}, (*bench).deliveries},
	{[]string{"plan_100_ms", "plan_1000_ms", "plan_10000_ms"}, (*bench).plan},
	{[]string{"slot_reuse_ms"}, (*bench).slot},
	{[]string{"cpu_ms_per_job", "peak_rss_mb", "surplus_runners"}, (*bench).load},
	{[]string{"bake_over_bare"}, (*bench).bake},
	{lxcNames, (*bench).lxc},
}

var idleNames = []string{"idle_rss_mb", "idle_cpu_percent"}

var errMissed = errors.New("goals missed")

func run(ctx context.Context, args []string, s size, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("only", "", "measure these figures alone, a `list` with commas")
	asJSON := flags.Bool("json", false, "print JSON instead of a table")
	out := flags.String("o", "", "also write JSON to this `file`")
	strict := flags.Bool("strict", false, "fail when a goal is missed")
	keep := flags.Bool("keep", false, "keep the daemons' folders and logs")
	if err := flags.Parse(args); err != nil {
		return err
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, s, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close(*keep)) }()
	fmt.Fprintf(stderr, "machine: %s\n", machine())
	b.chosen = chosen
	found, err := b.measure(ctx)
	if err != nil {
		return err
	}
	for name := range found {
		if !chosen[name] {
			delete(found, name)
		}
	}
	err = report(found, *asJSON, *out, *strict, stdout, stderr)
	if *asJSON {
		return err
	}
	return errors.Join(writeStages(stdout, b.stages), err)
}

func report(found results, asJSON bool, file string, strict bool, stdout, stderr io.Writer) error {
	list := rows(found)
	if file != "" {
		if err := writeFile(file, list); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	if asJSON {
		text, err := encode(list)
		if err != nil {
			return fmt.Errorf("write report: %w", err)
		}
		if _, err := stdout.Write(text); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	} else if err := writeTable(stdout, found); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	n := missed(list)
	fmt.Fprintf(stderr, "machine: %s\n%d of %d figures miss their goal\n", machine(), n, len(list))
	if strict && n > 0 {
		return fmt.Errorf("%d %w", n, errMissed)
	}
	return nil
}

// choose reads the list of figures; empty is all.
func choose(list string) (map[string]bool, error) {
	chosen := map[string]bool{}
	for _, f := range figures {
		chosen[f.name] = list == ""
	}
	if list == "" {
		return chosen, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if _, known := chosen[name]; !known {
			return nil, fmt.Errorf("no figure %q; build/bench.json names all of them", name)
		}
		chosen[name] = true
	}
	return chosen, nil
}

// newBench makes the folders and builds the programs.
func newBench(ctx context.Context, s size, progress io.Writer) (b *bench, err error) {
	b = &bench{size: s, progress: progress}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close(false))
		}
	}()
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return b, fmt.Errorf("find the module: %w", err)
	}
	build := filepath.Join(strings.TrimSpace(string(root)), "build")
	if err := os.MkdirAll(build, 0o755); err != nil {
		return b, err
	}
	// Not the system's temporary folder, which may be in memory.
	if b.dir, err = os.MkdirTemp(build, "bench-"); err != nil {
		return b, err
	}
	if b.sockets, err = os.MkdirTemp("", "bench-"); err != nil {
		return b, err
	}
	if b.program, err = programs.Build(ctx, programs.Dayfly); err != nil {
		return b, err
	}
	b.bareProgram, err = programs.Build(ctx, programs.Bare)
	return b, err
}

func (b *bench) close(keep bool) error {
	if keep {
		fmt.Fprintln(b.progress, "kept:", b.dir)
		return os.RemoveAll(b.sockets)
	}
	return errors.Join(os.RemoveAll(b.dir), os.RemoveAll(b.sockets))
}

// folder makes a folder for a child.
func (b *bench) folder(name string) (string, error) {
	b.folders++
	dir := filepath.Join(b.dir, fmt.Sprintf("%s-%d", name, b.folders))
	return dir, os.Mkdir(dir, 0o755)
}

// wanted reports whether one of these figures was chosen.
func (b *bench) wanted(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return b.chosen[n] })
}

// measure runs the experiments that have a chosen figure.
func (b *bench) measure(ctx context.Context) (found results, err error) {
	var resting *idle
	if b.wanted(idleNames) {
		if resting, err = b.startIdle(ctx); err != nil {
			return nil, fmt.Errorf("start an idle daemon: %w", err)
		}
		defer resting.close()
	}
	found = results{}
	add := func(names []string, f func() (results, error)) error {
		began := time.Now()
		got, err := f()
		if _, here := errors.AsType[absent](err); here || errors.Is(err, packertool.ErrNone) {
			fmt.Fprintf(b.progress, "note: %s is not measured: %v\n", names[0], err)
			return nil
		}
		if err != nil {
			return fmt.Errorf("measure %s: %w", names[0], err)
		}
		for name, m := range got {
			found[name] = m
		}
		fmt.Fprintf(b.progress, "%-60s %5.1f s\n", strings.Join(names, " "), time.Since(began).Seconds())
		return nil
	}
	for _, e := range experiments {
		if b.wanted(e.names) {
			if err := add(e.names, func() (results, error) { return e.run(b, ctx) }); err != nil {
				return nil, err
			}
		}
	}
	if resting != nil {
		err = add(idleNames, func() (results, error) { return resting.measure(ctx, b.size.idle) })
	}
	return found, err
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/test/packertool"
)

// What is measured on real containers, in one sandbox: bootNames together.
var (
	bootNames = []string{"spare_over_bare", "warm_ms", "boot_over_stock", "warm_rss_mb"}
	stormName = "storm_over_bare"
	lxcNames  = append(slices.Clone(bootNames), stormName)
)

// absent is why something cannot be measured on this machine.
type absent string

func (a absent) Error() string { return string(a) }

// order is what the part in the sandbox is to do.
type order struct {
	Dir, Program  string
	Rounds        int // of boots
	Storm, Storms int // containers at once, and how often
}

// order leaves out what nobody wants to know.
func (b *bench) order(dir string) order {
	o := order{Dir: dir, Program: b.program, Storm: b.size.storm}
	if b.wanted(bootNames) {
		o.Rounds = b.size.lxcRounds
	}
	if b.wanted([]string{stormName}) {
		o.Storms = b.size.storms
	}
	return o
}

// delivery is what it hands back.
type delivery struct {
	Absent string
	Found  map[string]finding
	Stages []stage
}

// finding is a measured figure on its way between the two processes.
type finding struct {
	Value, Baseline float64
	Note            string
}

// insideCommand is the first argument of the part in the sandbox.
const insideCommand = "inside"

// lxc measures on real containers: this program starts itself again, and that
// one in a sandbox.
func (b *bench) lxc(ctx context.Context) (results, error) {
	if err := lab.Missing(); err != nil {
		return nil, missing(absent(err.Error()))
	}
	dir, err := b.folder("lxc")
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(b.order(dir))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", insideCommand, string(text))
	cmd.Stdout, cmd.Stderr = b.progress, b.progress
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("in the sandbox: %w", err)
	}
	return b.delivered(dir)
}

// missing is an error in itself where everything must be measured.
func missing(why absent) error {
	if lab.Required() {
		return errors.New(string(why))
	}
	return why
}

func (b *bench) delivered(dir string) (results, error) {
	text, err := os.ReadFile(filepath.Join(dir, "delivery.json"))
	if err != nil {
		return nil, err
	}
	var got delivery
	if err := json.Unmarshal(text, &got); err != nil {
		return nil, fmt.Errorf("read what was measured: %w", err)
	}
	if got.Absent != "" {
		return nil, missing(absent(got.Absent))
	}
	b.stages = got.Stages
	found := results{}
	for name, m := range got.Found {
		found[name] = measured{m.Value, m.Baseline, m.Note}
	}
	return found, nil
}

// inside is the part in the sandbox, a program of its own. It returns the code
// to exit with.
func inside(text string) int {
	return lab.Main(func() int {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		var o order
		err := json.Unmarshal([]byte(text), &o)
		if err == nil {
			err = o.follow(ctx)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
		return 0
	})
}

// follow measures and leaves the delivery in the order's folder.
func (o order) follow(ctx context.Context) error {
	sockets, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	b := &bench{dir: o.Dir, sockets: sockets, program: o.Program, progress: os.Stderr}
	d := delivery{Found: map[string]finding{}}
	found, err := b.real(ctx, o)
	switch {
	case errors.Is(err, packertool.ErrNone) || errors.Is(err, lab.ErrNoDebian):
		d.Absent = err.Error()
	case err != nil:
		return err
	}
	for name, m := range found {
		d.Found[name] = finding{m.value, m.baseline, m.note}
	}
	d.Stages = b.stages
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.Dir, "delivery.json"), text, 0o644)
}

// stage is one moment of a job's way.
type stage struct {
	Name string
	At   float64 // ms after the job's webhook came
	Who  string  // that says so
}

// writeStages prints where the time of one job goes.
func writeStages(w io.Writer, list []stage) error {
	if len(list) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nwhere the time of one job on a spare goes, by the journal and the guest; medians, in ms")
	fmt.Fprintln(t, "stage\tat\ttook\tsaid by")
	before := 0.0
	for _, s := range list {
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%s\n", s.Name, s.At, s.At-before, s.Who)
		before = s.At
	}
	return t.Flush()
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/test/lxc/node"
	"github.com/dayfly-ci/dayfly/test/packertool"
)

// tiny measures everything, of little.
var tiny = size{
	rounds: 1, spareJobs: 2, coldJobs: 1, burstJobs: 3, burstRounds: 1, slotJobs: 8,
	deliveries: 300, paced: 200, syncs: 5, planning: time.Millisecond, loadJobs: 5,
	baking: baking{commands: []time.Duration{time.Millisecond}}, lxcRounds: 1, storm: 2, storms: 1,
}

// TestMain is also the part in the sandbox, which is this program once more.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == insideCommand {
		os.Exit(inside(os.Args[2]))
	}
	os.Exit(m.Run())
}

// promised are the figures that a report must have.
var promised = []string{
	"webhook_to_start_p50_ms", "webhook_to_start_p99_ms", "cold_over_bare", "burst_over_bound", "serial_over_burst",
	"deliveries_per_second", "delivery_p99_ms", "plan_100_ms", "plan_1000_ms", "plan_10000_ms", "slot_reuse_ms",
	"completed_to_destroy_ms", "cpu_ms_per_job", "peak_rss_mb", "surplus_runners", baked,
	"spare_over_bare", "warm_ms", "boot_over_stock", "storm_over_bare", "warm_rss_mb", "idle_rss_mb", "idle_cpu_percent",
}

// baked takes a packer, which is not everywhere.
const baked = "bake_over_bare"

func TestReportHasEveryFigure(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("the daemon's processor time and memory are read from /proc, which this system does not have")
	}
	file := filepath.Join(t.TempDir(), "build", "bench.json")
	var out, progress bytes.Buffer
	want := slices.Clone(promised)
	_, noPacker := packertool.Find(t.Context())
	if noPacker != nil {
		t.Logf("%s is not tried: %v", baked, noPacker)
		want = slices.DeleteFunc(want, func(name string) bool { return name == baked })
	}
	if err := run(t.Context(), []string{"-json", "-o", file}, tiny, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	if _, why, left := strings.Cut(progress.String(), "note: "+lxcNames[0]); left {
		if lab.Missing() == nil && noPacker == nil {
			t.Errorf("there are containers, but %s", why)
		}
		t.Logf("%s%s", lxcNames[0], why)
		want = slices.DeleteFunc(want, func(name string) bool { return slices.Contains(lxcNames, name) })
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written, out.Bytes()) {
		t.Errorf("the file differs from what is printed:\n%s\n%s", written, &out)
	}
	var report []map[string]any
	if err := json.Unmarshal(written, &report); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range report {
		name, _ := r["name"].(string)
		names = append(names, name)
		checkRow(t, name, r)
	}
	if !slices.Equal(names, want) {
		t.Errorf("figures: got %q, want %q", names, want)
	}
}

func TestContainersRunForWhatIsWantedAlone(t *testing.T) {
	for list, want := range map[string]order{
		"":                {Rounds: full.lxcRounds, Storms: full.storms},
		"warm_ms":         {Rounds: full.lxcRounds},
		"storm_over_bare": {Storms: full.storms},
		"boot_over_stock, plan_100_ms, storm_over_bare": {Rounds: full.lxcRounds, Storms: full.storms},
	} {
		chosen, err := choose(list)
		if err != nil {
			t.Fatal(err)
		}
		want.Dir, want.Storm = "dir", full.storm
		if got := (&bench{size: full, chosen: chosen}).order("dir"); got != want {
			t.Errorf("%q: got %+v, want %+v", list, got, want)
		}
	}
}

func checkRow(t *testing.T, name string, r map[string]any) {
	t.Helper()
	var keys []string
	for k := range r {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	if want := []string{"baseline", "goal", "name", "ok", "unit", "value"}; !slices.Equal(keys, want) {
		t.Errorf("%s: keys %q, want %q", name, keys, want)
	}
	value, isNumber := r["value"].(float64)
	mayBeNone := name == "surplus_runners" || name == "idle_cpu_percent" || name == "cpu_ms_per_job"
	if !isNumber || value < 0 || value == 0 && !mayBeNone {
		t.Errorf("%s: value %v", name, r["value"])
	}
	if baseline, isNumber := r["baseline"].(float64); !isNumber || baseline < 0 {
		t.Errorf("%s: baseline %v", name, r["baseline"])
	}
	if _, isBool := r["ok"].(bool); !isBool {
		t.Errorf("%s: ok %v", name, r["ok"])
	}
	if _, isText := r["unit"].(string); !isText {
		t.Errorf("%s: unit %v", name, r["unit"])
	}
}

func TestEveryFigureIsMeasuredByOneExperiment(t *testing.T) {
	measuredBy := map[string]int{}
	for _, e := range experiments {
		for _, name := range e.names {
			measuredBy[name]++
		}
	}
	for _, name := range idleNames {
		measuredBy[name]++
	}
	for _, f := range figures {
		if measuredBy[f.name] != 1 {
			t.Errorf("%s is measured by %d experiments, want 1", f.name, measuredBy[f.name])
		}
		delete(measuredBy, f.name)
	}
	if len(measuredBy) > 0 {
		t.Errorf("measured, but in no report: %v", measuredBy)
	}
}

func TestGoals(t *testing.T) {
	most, least, none := figure{goal: goal(5)}, figure{goal: goal(5), least: true}, figure{}
	for _, c := range []struct {
		f     figure
		value float64
		want  bool
	}{
		{most, 5, true}, {most, 5.1, false}, {least, 5, true}, {least, 4.9, false},
		{none, 1e9, true}, {none, math.NaN(), false}, {most, math.NaN(), false},
	} {
		if got := c.f.met(c.value); got != c.want {
			t.Errorf("goal %q met by %v: got %v, want %v", c.f.goalText(), c.value, got, c.want)
		}
	}
}

func TestMissedGoalIsShownAndFailsOnlyWhenStrict(t *testing.T) {
	found := results{"idle_rss_mb": {value: 41, baseline: 8, note: "a program"}, "slot_reuse_ms": {value: 49.999, baseline: 1}}
	var out, progress bytes.Buffer
	if err := report(found, false, "", false, &out, &progress); err != nil {
		t.Errorf("not strict: %v", err)
	}
	for line, want := range map[string]string{"idle_rss_mb": "MISSED", "slot_reuse_ms": "ok"} {
		i := slices.IndexFunc(strings.Split(out.String(), "\n"), func(l string) bool {
			return strings.HasPrefix(l, line) && strings.Contains(l, want)
		})
		if i < 0 {
			t.Errorf("%s is not said to be %s:\n%s", line, want, &out)
		}
	}
	if err := report(found, true, "", true, &out, &progress); !errors.Is(err, errMissed) {
		t.Errorf("strict: got %v, want %v", err, errMissed)
	}
}

func TestChosenFiguresAlone(t *testing.T) {
	chosen, err := choose("plan_100_ms, idle_rss_mb")
	if err != nil || !chosen["plan_100_ms"] || !chosen["idle_rss_mb"] || chosen["plan_1000_ms"] {
		t.Errorf("got %v, %v", chosen, err)
	}
	if _, err := choose("plan_100"); err == nil || !strings.Contains(err.Error(), `"plan_100"`) {
		t.Errorf("unknown figure: %v", err)
	}
}

func TestQuantiles(t *testing.T) {
	var s sample
	for i := range 100 {
		s = append(s, time.Duration(100-i)*time.Millisecond)
	}
	if got := [3]float64{s.median(), s.at(0.99), s.at(1)}; got != [3]float64{50, 99, 100} {
		t.Errorf("median, p99 and longest of 1..100 ms: %v", got)
	}
	if !math.IsNaN(sample(nil).median()) || !math.IsNaN(median(nil)) {
		t.Error("the median of nothing is a number")
	}
	if got := median([]float64{4, 1, 2, 3}); got != 2.5 {
		t.Errorf("median of four rounds: %v, want 2.5", got)
	}
	for v, want := range map[float64]float64{0: 0, 1234.56: 1235, 0.0123456: 0.01235, -7: -7} {
		if got := short(v); got != want {
			t.Errorf("short(%v) = %v, want %v", v, got, want)
		}
	}
}

func TestStagesOfAJob(t *testing.T) {
	begin := time.Now().Add(-time.Minute)
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	clock := node.Clock() - time.Since(begin)
	timeline := []daemon.Event{
		{At: at(-5000), What: "decided", Detail: "clone: spare 1 of 1"}, {At: at(-4000), What: "cloned"}, {At: at(-300), What: "queued"},
		{At: at(0), What: "delivered"}, {At: at(2), What: "decided", Detail: "launch: job 1 is queued"}, {At: at(40), What: "started"},
		{At: at(900), What: "decided", Detail: "destroy: its job is over"}, {At: at(950), What: "destroyed"},
	}
	one, err := account(timeline, map[string]time.Duration{"init": clock + 20*time.Millisecond, "waiting": clock + 200*time.Millisecond, "runner": clock + 262*time.Millisecond})
	if err != nil || one.took.Round(time.Millisecond) != 260*time.Millisecond {
		t.Errorf("from the decision to the runner: %s, %v", one.took, err)
	}
	var out bytes.Buffer
	if err := writeStages(&out, typical([][]stage{one.stages, one.stages})); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"delivered 0 0 journal", "decided 2 2 journal", "systemd runs 20 18 guest", "started 40 20 journal",
		"config is waited for 200 160 guest", "runner's program runs 262 62 guest", "destroyed 950 688 journal",
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, line := range lines[2:] {
		if got := strings.Join(strings.Fields(line), " "); i >= len(want) || got != want[i] {
			t.Errorf("stage %d: %q", i, got)
		}
	}
	if len(lines) != 2+len(want) {
		t.Errorf("%d stages, want %d:\n%s", len(lines)-2, len(want), &out)
	}
	if _, err := account(timeline[:4], nil); err == nil {
		t.Error("a job that nothing was decided for has stages")
	}
}

// What cannot be measured here is told, unless everything must be.
func TestMissingLabIsANoteUnlessItIsRequired(t *testing.T) {
	t.Setenv("DAYFLY_LAB", "")
	if err := missing("no root"); err != error(absent("no root")) {
		t.Errorf("got %v", err)
	}
	t.Setenv("DAYFLY_LAB", "require")
	if _, here := errors.AsType[absent](missing("no root")); here {
		t.Error("it is only a note where it is required")
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// measured is what was found of one figure.
type measured struct {
	value    float64
	baseline float64 // of the same run, in the same unit
	note     string  // what the baseline is
}

type results map[string]measured

// figure is one figure of the report.
type figure struct {
	name, unit string
	goal       *float64
	least      bool   // the goal is the least, not the most
	garm       string // what GARM does, measured elsewhere
}

func goal(v float64) *float64 { return &v }

// figures are all figures, in the order of the report. A ratio's unit is x and
// its baseline 1. What GARM does was measured elsewhere: version
// 0.2.1-96-gafda4e76 with SQLite, a provider that answers at once and a fake
// GitHub on the loopback, 2 shared cores, job-age backoff 0.
var figures = []figure{
	{name: "webhook_to_start_p50_ms", unit: "ms", goal: goal(5), garm: "6900 (default: 37200)"},
	{name: "webhook_to_start_p99_ms", unit: "ms"},
	{name: "cold_over_bare", unit: "x", goal: goal(1.05)},
	{name: "burst_over_bound", unit: "x", goal: goal(1.10), garm: "50 jobs: last after 8.9 s (default: 37.8 s)"},
	{name: "serial_over_burst", unit: "x"},
	{name: "deliveries_per_second", unit: "/s", goal: goal(3000), least: true, garm: "908, not fsynced"},
	{name: "delivery_p99_ms", unit: "ms", goal: goal(10), garm: "32 at 908/s"},
	{name: "plan_100_ms", unit: "ms", goal: goal(0.3)},
	{name: "plan_1000_ms", unit: "ms", goal: goal(3)},
	{name: "plan_10000_ms", unit: "ms", goal: goal(30)},
	{name: "slot_reuse_ms", unit: "ms", goal: goal(50), garm: "about 20000"},
	{name: "completed_to_destroy_ms", unit: "ms", goal: goal(50), garm: "3100"},
	{name: "cpu_ms_per_job", unit: "ms", goal: goal(10), garm: "about 130"},
	{name: "peak_rss_mb", unit: "MB", goal: goal(80), garm: "279 to 351"},
	{name: "surplus_runners", unit: "", goal: goal(0), garm: "5 to 6 % of the jobs"},
	{name: "bake_over_bare", unit: "x", goal: goal(1.05)},
	{name: "spare_over_bare", unit: "x", goal: goal(1.05)},
	{name: "warm_ms", unit: "ms", goal: goal(25)},
	{name: "boot_over_stock", unit: "x", goal: goal(0.6)},
	{name: "storm_over_bare", unit: "x", goal: goal(1.15)},
	{name: "warm_rss_mb", unit: "MB", goal: goal(25)},
	{name: "idle_rss_mb", unit: "MB", goal: goal(40), garm: "64 to 70"},
	{name: "idle_cpu_percent", unit: "%", goal: goal(0.05), garm: "0.10"},
}

func (f figure) met(v float64) bool {
	switch {
	case math.IsNaN(v):
		return false
	case f.goal == nil:
		return true
	case f.least:
		return v >= *f.goal
	}
	return v <= *f.goal
}

func (f figure) goalText() string {
	switch {
	case f.goal == nil:
		return ""
	case f.least:
		return fmt.Sprintf(">= %g", *f.goal)
	}
	return fmt.Sprintf("<= %g", *f.goal)
}

// row is one line of the JSON report. Goal is null where there is none.
type row struct {
	Name     string   `json:"name"`
	Value    float64  `json:"value"`
	Unit     string   `json:"unit"`
	Baseline float64  `json:"baseline"`
	Goal     *float64 `json:"goal"`
	OK       bool     `json:"ok"`
}

// rows are the figures that were measured.
func rows(found results) []row {
	list := []row{}
	for _, f := range figures {
		if m, ok := found[f.name]; ok {
			list = append(list, row{f.name, short(m.value), f.unit, short(m.baseline), f.goal, f.met(m.value)})
		}
	}
	return list
}

// missed counts the goals that were missed.
func missed(list []row) int {
	n := 0
	for _, r := range list {
		if !r.OK {
			n++
		}
	}
	return n
}

// writeTable prints the report for people.
func writeTable(w io.Writer, found results) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tvalue\tgoal\t\tbaseline\tof what\tGARM, measured elsewhere")
	for _, f := range figures {
		m, ok := found[f.name]
		if !ok {
			continue
		}
		verdict := ""
		switch {
		case !f.met(m.value):
			verdict = "MISSED"
		case f.goal != nil:
			verdict = "ok"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.name, f.text(m.value), f.goalText(), verdict, f.text(m.baseline), m.note, f.garm)
	}
	return t.Flush()
}

func (f figure) text(v float64) string {
	return strings.TrimSpace(fmt.Sprintf("%g %s", short(v), f.unit))
}

func encode(list []row) ([]byte, error) {
	text, err := json.MarshalIndent(list, "", "  ")
	return append(text, '\n'), err
}

// writeFile writes the report to a file.
func writeFile(path string, list []row) error {
	text, err := encode(list)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var rowOfREADME = regexp.MustCompile(`(?m)^\| ([a-z0-9_]+) \| ([0-9.]+)([^|]*)\|([^|]*)\|([^|]*)\|$`)

// TestREADMEShowsEveryFigure: with the unit and the goal that the benchmark has,
// and whether it is met.
func TestREADMEShowsEveryFigure(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string][]string{}
	for _, m := range rowOfREADME.FindAllStringSubmatch(string(text), -1) {
		shown[m[1]] = m[2:]
	}
	for _, f := range figures {
		row := shown[f.name]
		delete(shown, f.name)
		if row == nil {
			t.Errorf("%s is not shown", f.name)
			continue
		}
		value, err := strconv.ParseFloat(row[0], 64)
		if err != nil || strings.TrimSpace(row[1]) != f.unit {
			t.Errorf("%s: got %s%s, want a number of unit %q", f.name, row[0], row[1], f.unit)
		}
		want := strings.NewReplacer("<=", "≤", ">=", "≥").Replace(f.goalText())
		if !f.met(value) {
			want += " (missed)"
		}
		if got := strings.TrimSpace(row[2]); got != want {
			t.Errorf("%s: goal %q, want %q for %g", f.name, got, want, value)
		}
		if _, err := strconv.ParseFloat(strings.TrimSpace(row[3]), 64); err != nil {
			t.Errorf("%s: baseline %q", f.name, row[3])
		}
	}
	if len(shown) > 0 {
		t.Errorf("shown, and measured by nothing: %v", shown)
	}
}

package main

import (
	"runtime/debug"
	"testing"
)

// The daemon's heap may grow more than Go's own way, unless the operator says
// otherwise.
func TestHeapGrowsUnlessToldOtherwise(t *testing.T) {
	was := debug.SetGCPercent(100)
	defer debug.SetGCPercent(was)
	for env, want := range map[string]int{"": 200, "50": 100} {
		t.Setenv("GOGC", env)
		debug.SetGCPercent(100)
		moreHeap()
		if got := debug.SetGCPercent(100); got != want {
			t.Errorf("GOGC=%q: heap grows by %d %%, want %d %%", env, got, want)
		}
	}
}

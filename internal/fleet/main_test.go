package fleet

import (
	"flag"
	"runtime/debug"
	"testing"
)

// TestMain has garbage collected rarely: random worlds make much of it and keep
// little, and would spend half of their time on it. Benchmarks run as the
// daemon does.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" {
		debug.SetGCPercent(800)
	}
	m.Run()
}

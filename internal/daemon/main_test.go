package daemon_test

import (
	"runtime/debug"
	"testing"
)

// TestMain has garbage collected rarely: a world lives for seconds, and keeps a
// tenth of what it makes.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	m.Run()
}

package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/dayfly-ci/dayfly/test/packertool"
)

// TestMain makes the test binary the plugin when Packer starts it as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "describe" || os.Args[1] == "start") {
		main()
		return
	}
	code := m.Run()
	if kept.dir != "" {
		_ = os.RemoveAll(kept.dir)
	}
	os.Exit(code)
}

// kept is the packer with this plugin that those of all tests are links to: to
// install a plugin takes packer seconds.
var kept struct {
	sync.Once
	dir  string
	home *packertool.Home
	err  error
}

func keep(ctx context.Context) (*packertool.Home, error) {
	packer, err := packertool.Find(ctx)
	if err != nil {
		return nil, err
	}
	if kept.dir, err = os.MkdirTemp("", "dayfly-plugin-test-"); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	home := packertool.In(kept.dir, packer)
	return home, home.Add(ctx, self)
}

// homeOf is a packer with this plugin, for one test.
func homeOf(t testing.TB) *packertool.Home {
	t.Helper()
	kept.Do(func() { kept.home, kept.err = keep(t.Context()) })
	if errors.Is(kept.err, packertool.ErrNone) {
		t.Skip(kept.err)
	}
	if kept.err != nil {
		t.Fatal(kept.err)
	}
	return linked(t, kept.home)
}

func linked(t testing.TB, to *packertool.Home) *packertool.Home {
	t.Helper()
	home, err := to.Link(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return home
}

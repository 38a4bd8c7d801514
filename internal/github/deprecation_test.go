package github

import (
	"errors"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// go-github has no call for it.
func TestTheEndOfARunnerVersionIsAskedFor(t *testing.T) {
	end := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	story(t, hub.Config{Versions: hub.Versions{Ends: map[string]time.Time{"2.333.1": end}}}, func(t *testing.T, f *fixture) {
		for _, scope := range []fleet.Scope{"acme", "acme/app"} {
			for version, want := range map[string]time.Time{"2.333.1": end, "2.335.1": {}} {
				if got, err := f.c.Deprecation(t.Context(), scope, version); err != nil || !got.Equal(want) {
					t.Errorf("%s, %s: got %v %v, want %v", scope, version, got, err, want)
				}
			}
		}
		f.hub.SetVersions(hub.Versions{NoDeprecations: true})
		if _, err := f.c.Deprecation(t.Context(), "acme", "2.333.1"); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("a server without the question: got %v, want %v", err, fleet.ErrNotFound)
		}
	})
}

package github

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// net/http repeats some requests by itself when a kept connection breaks.
func TestALostJITRequestIsNotRepeatedOverSocketsEither(t *testing.T) {
	h := hub.New(hub.Config{})
	t.Cleanup(h.Close)
	h.AddInstallation(hub.Installation{Account: "acme", Repositories: []string{"app"}})
	var sent atomic.Int32
	server := httptest.NewServer(stage.WithFaults(h, &stage.Clock{}, func(r *http.Request) stage.Fault {
		if !strings.HasSuffix(r.URL.Path, jitPath) {
			return stage.Fault{}
		}
		sent.Add(1)
		return stage.Fault{Lose: true}
	}))
	t.Cleanup(server.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := New(Config{URL: server.URL + "/api/v3", App: h.App().ClientID, Key: fleet.NewSecret(string(h.App().PEM)), Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.Registrations(ctx, "acme"); err != nil { // keeps a connection
		t.Fatal(err)
	}
	if _, _, err := c.JIT(ctx, "acme", "n0", []string{"x"}, ""); !errors.Is(err, fleet.ErrUnknownOutcome) {
		t.Errorf("got %v, want %v", err, fleet.ErrUnknownOutcome)
	}
	if sent.Load() != 1 || h.JITMinted() != 1 {
		t.Errorf("got %d requests and %d configs, want one", sent.Load(), h.JITMinted())
	}
	if _, ok, err := c.Find(ctx, "acme", "n0"); !ok || err != nil {
		t.Errorf("find: got %v %v, want the registration", ok, err)
	}
	server.Close()
	transport.CloseIdleConnections() // on a kept connection nobody could tell
	if _, _, err := c.JIT(ctx, "acme", "n1", []string{"x"}, ""); !errors.Is(err, fleet.ErrUnavailable) || errors.Is(err, fleet.ErrUnknownOutcome) {
		t.Errorf("nobody listens: got %v, want %v, for nothing was sent", err, fleet.ErrUnavailable)
	}
}

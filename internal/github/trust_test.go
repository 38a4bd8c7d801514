package github

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// A server with a CA of its own is no server out of reach, and was told nothing.
func TestACertificateThatIsNotTrustedIsSaid(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	c, err := New(Config{URL: s.URL, App: "1", Key: fleet.NewSecret(testKeys()["pkcs1"])})
	if err != nil {
		t.Fatal(err)
	}
	p := c.Away(t.Context())
	if p == nil || p.What != "GitHub's certificate is not trusted" || !strings.Contains(p.Fix, "update-ca-certificates") {
		t.Errorf("got %v, want that the certificate is not trusted and what to do", p)
	}
	err = c.do(t.Context(), &call{class: mint}, func(ctx context.Context) error {
		_, _, err := c.gh.Apps.Get(ctx, "")
		return err
	})
	if !errors.Is(err, fleet.ErrUnavailable) || errors.Is(err, fleet.ErrUnknownOutcome) {
		t.Errorf("a JIT config was asked for: got %v, want %v", err, fleet.ErrUnavailable)
	}
}

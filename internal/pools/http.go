package pools

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// http opens a conversation over HTTP. go-git follows a redirect of the first
// request only and drops credentials when it leads to another origin; a
// redirect of a repository that was renamed works, others do no harm.
func (c GitConfig) http(ctx context.Context, ep *transport.Endpoint) (server, error) {
	client, auth, err := c.httpClient(ctx)
	if err != nil {
		return nil, err
	}
	return client.NewUploadPackSession(ep, auth)
}

func (c GitConfig) httpClient(ctx context.Context) (transport.Transport, transport.AuthMethod, error) {
	tripper := http.DefaultTransport.(*http.Transport).Clone()
	tripper.DisableKeepAlives = true // polls are far apart, and nothing outlives a Load
	if c.CA != "" {
		pool, err := authorities(c.CA)
		if err != nil {
			return nil, nil, err
		}
		tripper.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	client := githttp.NewClientWithOptions(&http.Client{Transport: capped{tripper, c.MaxBytes}}, nil)
	token := c.Token
	if c.App != nil {
		var err error
		if token, err = c.App.Token(ctx); err != nil {
			return nil, nil, err
		}
	}
	var auth transport.AuthMethod
	if !token.Empty() {
		auth = &githttp.BasicAuth{Username: c.User, Password: token.Reveal()}
	}
	return client, auth, nil
}

func authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read certificate authorities: %w", kindOfFile(err))
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read certificate authorities: %s has no certificate: %w", file, fleet.ErrInvalid)
	}
	return pool, nil
}

// capped bounds every answer: go-git reads the references, and the page of an
// error, into memory however long they are.
type capped struct {
	next http.RoundTripper
	most int64
}

func (c capped) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	most := c.most + c.most/64 + 4096 // the pack's own limit plus its framing
	if resp.StatusCode >= http.StatusBadRequest {
		most = 4096
	}
	resp.Body = &cappedBody{resp.Body, most, resp.StatusCode >= http.StatusBadRequest}
	return resp, nil
}

type cappedBody struct {
	io.ReadCloser
	left int64
	cut  bool // end quietly: an error page may be cut
}

func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left <= 0 && b.cut {
		return 0, io.EOF
	}
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// shortError is an error with its text in one line of bearable length: servers
// answer with whole web pages.
type shortError struct{ error }

func oneLine(err error) error { return shortError{err} }

func (e shortError) Unwrap() error { return e.error }

func (e shortError) Error() string {
	const most = 300
	s := strings.Join(strings.FieldsFunc(e.error.Error(), func(r rune) bool { return isControl(r) }), " ")
	s = strings.TrimRight(strings.TrimSpace(s), ":")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

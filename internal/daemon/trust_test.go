package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// TestWayToProxmoxThatIsWrongSaysWhatToSet asks servers that a wrong line of the
// configuration leads to.
func TestWayToProxmoxThatIsWrongSaysWhatToSet(t *testing.T) {
	refuse := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "", http.StatusUnauthorized)
	})
	secure, plain := httptest.NewTLSServer(refuse), httptest.NewServer(refuse)
	defer secure.Close()
	defer plain.Close()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	for name, c := range map[string]struct {
		url, server string
		ca          []byte
		want        string
	}{
		"no CA":      {secure.URL, "", nil, "set proxmox.ca_file to a copy of the cluster's own CA, which is /etc/pve/pve-root-ca.pem"},
		"other name": {secure.URL, "pve1", ca, "set proxmox.server_name to a name that the certificate is for: example.com"},
		"no TLS":     {strings.Replace(plain.URL, "http:", "https:", 1), "", nil, "look at the port in proxmox.url"},
		"no token":   {secure.URL, "example.com", ca, "look at proxmox.token_file"},
	} {
		px, err := proxmox.New(proxmox.Config{
			URL: c.url, ServerName: c.server, CA: c.ca, Token: fleet.NewSecret("dayfly@pve!mgr=11111111-2222-3333-4444-555555555555"),
			TemplatePool: "templates", RunnerPool: "runners", First: 20000, Last: 20999, Key: fleet.NewSecret(strings.Repeat("k", 32)),
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = px.Nodes(t.Context())
		px.Close()
		if got := hint(err); err == nil || !strings.Contains(got, c.want) {
			t.Errorf("%s: %v: hint %q, want %q", name, err, got, c.want)
		}
	}
	expired := &proxmox.Error{Kind: fleet.ErrUnavailable, Cause: &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}}
	if got := hint(expired); !strings.Contains(got, "timedatectl") || !strings.Contains(got, "pvecm updatecerts") {
		t.Errorf("expired: hint %q, want what to look at", got)
	}
}

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// hub is github.com and api.github.com as far as packer init asks them, behind
// a proxy: packer knows no other address.
type hub struct {
	proxy *httptest.Server
	ca    string // file

	mu    sync.Mutex
	paths []string
}

// openHub serves the files of one release.
func openHub(t *testing.T, dir, version string) *hub {
	t.Helper()
	h := &hub{}
	const repo = "/dayfly-ci/packer-plugin-dayfly"
	mux := http.NewServeMux()
	mux.HandleFunc("GET api.github.com/repos"+repo+"/git/matching-refs/tags", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode([]map[string]string{{"ref": "refs/tags/v0.0.1"}, {"ref": "refs/tags/" + version}})
	})
	mux.Handle("GET github.com"+repo+"/releases/download/"+version+"/",
		http.StripPrefix(repo+"/releases/download/"+version, http.FileServer(http.Dir(dir))))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.paths = append(h.paths, r.Host+r.URL.Path)
		h.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	cert, ca := certificate(t)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	t.Cleanup(server.Close)
	h.ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(h.ca, ca, 0o644); err != nil {
		t.Fatal(err)
	}
	h.proxy = httptest.NewServer(tunnel(server.Listener.Addr().String()))
	t.Cleanup(h.proxy.Close)
	return h
}

// env leads a program to the hub.
func (h *hub) env() []string {
	return []string{"HTTPS_PROXY=" + h.proxy.URL, "SSL_CERT_FILE=" + h.ca, "SSL_CERT_DIR=/nonexistent"}
}

func (h *hub) asked() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.paths)
}

// tunnel is a proxy that connects to one address, whatever it is asked for.
func tunnel(to string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || !strings.HasSuffix(r.Host, "github.com:443") {
			http.Error(w, "no such host", http.StatusBadGateway)
			return
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer out.Close()
		in, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer in.Close()
		if _, err := io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
			return
		}
		done := make(chan struct{})
		go func() {
			_, _ = io.Copy(out, in)
			_ = out.(*net.TCPConn).CloseWrite()
			close(done)
		}()
		_, _ = io.Copy(in, out)
		_ = in.Close()
		<-done
	})
}

// certificate makes one for the hub's names that signs itself.
func certificate(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hub"}, DNSNames: []string{"github.com", "api.github.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

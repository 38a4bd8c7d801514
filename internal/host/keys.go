package host

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Keys are what one side of a connection between nodes proves itself with:
// its certificate and key, and the authority that both sides trust. It is all
// PEM in one file.
type Keys struct{ PEM fleet.Secret }

const (
	daemonName = "dayfly daemon"
	keysLife   = 10 * 365 * 24 * time.Hour // made anew by hand; there is no revocation
)

// Authority signs the keys of nodes and of the daemon.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes one.
func NewAuthority(now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := certificate("dayfly root halves", now)
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{cert, key}, err
}

// ReadAuthority reads what PEM wrote.
func ReadAuthority(text fleet.Secret) (*Authority, error) {
	pair, err := tls.X509KeyPair([]byte(text.Reveal()), []byte(text.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("read authority: it is none")
	}
	return &Authority{pair.Leaf, key}, nil
}

// PEM is the authority's certificate and key.
func (a *Authority) PEM() (fleet.Secret, error) { return bundle(a.cert.Raw, a.key) }

// Node makes the keys of a node's root half.
func (a *Authority) Node(name string, now time.Time) (Keys, error) {
	template := certificate(name, now)
	template.DNSNames = []string{nodeName(name)}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	return a.sign(template)
}

// Daemon makes the keys of the daemon.
func (a *Authority) Daemon(now time.Time) (Keys, error) {
	template := certificate(daemonName, now)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.sign(template)
}

// nodeName is a name that no public authority certifies.
func nodeName(node string) string { return node + ".dayfly.internal" }

func certificate(name string, now time.Time) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // never fails (crypto/rand)
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(keysLife),
	}
}

func (a *Authority) sign(template *x509.Certificate) (Keys, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Keys{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return Keys{}, err
	}
	text, err := bundle(der, key, a.cert.Raw)
	return Keys{text}, err
}

// bundle is a certificate, its key, and what else there is to trust.
func bundle(cert []byte, key *ecdsa.PrivateKey, trusted ...[]byte) (fleet.Secret, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fleet.Secret{}, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	for _, t := range trusted {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: t})...)
	}
	return fleet.NewSecret(string(text)), nil
}

// load reads keys: the first certificate is one's own, the second the authority's.
func (k Keys) load() (tls.Certificate, *x509.CertPool, error) {
	text := []byte(k.PEM.Reveal())
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return pair, nil, fmt.Errorf("keys between nodes: %w", err)
	}
	if len(pair.Certificate) != 2 {
		return pair, nil, errors.New("keys between nodes: want one's own certificate, its key and the authority's certificate")
	}
	authority, err := x509.ParseCertificate(pair.Certificate[1])
	if err != nil || !authority.IsCA {
		return pair, nil, errors.New("keys between nodes: the second certificate is no authority's")
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	pair.Certificate = pair.Certificate[:1]
	return pair, pool, nil
}

func (k Keys) client(node string) (*tls.Config, error) {
	pair, pool, err := k.load()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, RootCAs: pool, ServerName: nodeName(node),
	}, nil
}

// Listener lets only the daemon connect: who has its certificate from the same
// authority, made for the daemon.
func (k Keys) Listener(l net.Listener) (net.Listener, error) {
	pair, pool, err := k.load()
	if err != nil {
		return nil, err
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		VerifyConnection: func(c tls.ConnectionState) error {
			if len(c.PeerCertificates) == 0 || c.PeerCertificates[0].Subject.CommonName != daemonName {
				return errors.New("the certificate is not the daemon's")
			}
			return nil
		},
	}), nil
}

package github

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// appKey signs the App's JWTs. It is own code because ghinstallation holds a
// mutex over the network, waits with the first caller's context and leaks the
// body of refused answers (v2.11.0, transport.go).
type appKey struct {
	id    string
	key   *rsa.PrivateKey
	clock *clock
}

// parseKey reads the PEM file that GitHub lets the App's owner download:
// PKCS #1; PKCS #8 is what openssl makes of it. Errors say what was found,
// never any of the content.
func parseKey(s fleet.Secret) (*rsa.PrivateKey, error) {
	const want = `want the App's private key as downloaded from GitHub, which begins with "-----BEGIN RSA PRIVATE KEY-----"`
	fail := func(found string) (*rsa.PrivateKey, error) {
		return nil, fmt.Errorf("app key: found %s: %s: %w", found, want, fleet.ErrInvalid)
	}
	if s.Empty() {
		return fail("nothing")
	}
	block, _ := pem.Decode([]byte(s.Reveal()))
	if block == nil {
		return fail("no PEM block")
	}
	var parsed any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return fail(fmt.Sprintf("a PEM block %q", block.Type))
	}
	if err != nil {
		return fail(fmt.Sprintf("a damaged PEM block %q", block.Type))
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return fail(fmt.Sprintf("a key of type %T", parsed))
	}
	return key, nil
}

// jwt makes the App's credential. Issued a minute back and valid for less
// than GitHub's ten minutes, in GitHub's own time as far as it is known, so
// that a wrong clock here is reported instead of stopping everything.
func (a appKey) jwt() (string, error) {
	now := a.clock.github()
	claims, err := json.Marshal(map[string]any{
		"iss": a.id,
		"iat": now.Add(-time.Minute).Unix(),
		"exp": now.Add(9 * time.Minute).Unix(),
	})
	if err != nil {
		return "", fmt.Errorf("sign app token: %w", err)
	}
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + enc.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, a.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", errors.New("sign app token: the key cannot sign")
	}
	return text + "." + enc.EncodeToString(sig), nil
}

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
	"sync"
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
	last  *issued
}

// issued is the JWT in use: a signature costs a millisecond of CPU, and one
// JWT is good for many calls.
type issued struct {
	mu   sync.Mutex
	text string
	from time.Time // GitHub's time when it was made
}

// jwtUse is how long a JWT is used again, well within its life.
const jwtUse = 4 * time.Minute

// token returns the JWT in use, or a new one: when GitHub's clock turns out to
// be another, too.
func (a appKey) token() (string, error) {
	a.last.mu.Lock()
	defer a.last.mu.Unlock()
	if age := a.clock.github().Sub(a.last.from); a.last.text != "" && age >= 0 && age < jwtUse {
		return a.last.text, nil
	}
	text, err := a.jwt()
	if err == nil {
		a.last.text, a.last.from = text, a.clock.github()
	}
	return text, err
}

// drop ends the use of a JWT that was refused.
func (a appKey) drop(text string) {
	a.last.mu.Lock()
	defer a.last.mu.Unlock()
	if a.last.text == text {
		a.last.text = ""
	}
}

// CheckKey says what is wrong with an App's private key, and what is wanted.
func CheckKey(s fleet.Secret) error {
	if _, err := readKey(s); err != nil {
		return fmt.Errorf(`found %w: want the App's private key as downloaded from GitHub, which begins with "-----BEGIN RSA PRIVATE KEY-----"`, err)
	}
	return nil
}

func parseKey(s fleet.Secret) (*rsa.PrivateKey, error) {
	if err := CheckKey(s); err != nil {
		return nil, fmt.Errorf("app key: %w: %w", err, fleet.ErrInvalid)
	}
	return readKey(s)
}

// readKey reads the PEM file that GitHub lets the App's owner download:
// PKCS #1; PKCS #8 is what openssl makes of it. Errors say what was found,
// never any of the content.
func readKey(s fleet.Secret) (*rsa.PrivateKey, error) {
	if s.Empty() {
		return nil, errors.New("nothing")
	}
	block, _ := pem.Decode([]byte(s.Reveal()))
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	var parsed any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("a PEM block %q", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("a damaged PEM block %q", block.Type)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %T", parsed)
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

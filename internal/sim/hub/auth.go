package hub

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// GitHub's words for a bad App JWT (as octokit/auth-app.js recognises them).
const (
	jwtUndecodable = "A JSON web token could not be decoded"
	jwtBadIssued   = "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
	jwtBadExpiry   = "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires"
	jwtFarExpiry   = "'Expiration time' claim ('exp') is too far in the future"
	jwtNoApp       = "Integration not found"
)

// maxJWTLife is how far ahead an App JWT may expire.
const maxJWTLife = 10 * time.Minute

// bearer is the credential of a request: "Bearer x" and "token x" are the same
// to GitHub.
func bearer(r *http.Request) (credential string, present bool) {
	v := r.Header.Get("Authorization")
	if v == "" {
		return "", false
	}
	scheme, rest, _ := strings.Cut(v, " ")
	switch strings.ToLower(scheme) {
	case "bearer", "token":
		return strings.TrimSpace(rest), true
	}
	return "", true
}

// checkJWT verifies an App JWT and returns GitHub's refusal, if any.
func (h *Hub) checkJWT(r *http.Request) (answer, bool) {
	refuse := func(code int, text string) (answer, bool) { return fail(code, "%s", text), false }
	credential, _ := bearer(r)
	claims, err := verifyRS256(credential, &h.appKey.PublicKey)
	if err != nil {
		return refuse(http.StatusUnauthorized, jwtUndecodable)
	}
	now := h.clock.Now()
	issued, ok := wholeSeconds(claims["iat"])
	if !ok || issued.After(now) {
		return refuse(http.StatusUnauthorized, jwtBadIssued)
	}
	expiry, ok := seconds(claims["exp"])
	if !ok || !expiry.After(now) {
		return refuse(http.StatusUnauthorized, jwtBadExpiry)
	}
	// A second of grace: exp is in whole seconds (believed).
	if expiry.After(now.Add(maxJWTLife + time.Second)) {
		return refuse(http.StatusUnauthorized, jwtFarExpiry)
	}
	if iss := issuer(claims["iss"]); iss != strconv.FormatInt(h.appID, 10) && iss != h.clientID {
		return refuse(http.StatusNotFound, jwtNoApp)
	}
	return answer{}, true
}

// verifyRS256 returns the claims of a compact JWT signed with key.
func verifyRS256(compact string, key *rsa.PublicKey) (map[string]any, error) {
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("verify jwt: %d parts", len(parts))
	}
	var header struct {
		Alg string `json:"alg"`
	}
	if err := decodePart(parts[0], &header); err != nil {
		return nil, err
	}
	if header.Alg != "RS256" {
		return nil, fmt.Errorf("verify jwt: algorithm %q", header.Alg)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return nil, fmt.Errorf("verify jwt: %w", err)
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature); err != nil {
		return nil, fmt.Errorf("verify jwt: %w", err)
	}
	var claims map[string]any
	if err := decodePart(parts[1], &claims); err != nil {
		return nil, err
	}
	return claims, nil
}

func decodePart(s string, into any) error {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return fmt.Errorf("decode jwt: %w", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("decode jwt: %w", err)
	}
	return nil
}

func seconds(v any) (time.Time, bool) {
	f, ok := v.(float64)
	if !ok || math.IsNaN(f) || math.Abs(f) > 1e12 {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0), true
}

func wholeSeconds(v any) (time.Time, bool) {
	f, ok := v.(float64)
	if !ok || f != math.Trunc(f) {
		return time.Time{}, false
	}
	return seconds(v)
}

// issuer is the App's id, sent as a number or a string, or its client id.
func issuer(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}

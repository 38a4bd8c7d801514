package fleet

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

const (
	prefix   = "dayfly-"
	randLen  = 8 // hex digits of randomness
	proofLen = 8 // hex digits that prove the name is ours
)

// MaxPoolName keeps a runner's name within the 63 bytes of a host name.
const MaxPoolName = 63 - len(prefix) - 1 - randLen - proofLen

// NewName makes a runner's name from four random bytes: pool and randomness,
// then a proof under the instance's key, so that a registration at GitHub,
// which carries nothing else of ours, can be told from another dayfly's.
func NewName(pool string, random [4]byte, key []byte) string {
	base := prefix + pool + "-" + hex.EncodeToString(random[:])
	return base + proof(base, key)
}

// OwnedPool returns the pool in a name that NewName made with key.
func OwnedPool(name string, key []byte) (string, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	tail := randLen + proofLen
	if !ok || len(rest) < tail+2 || rest[len(rest)-tail-1] != '-' {
		return "", false
	}
	base := name[:len(name)-proofLen]
	if !hmac.Equal([]byte(proof(base, key)), []byte(name[len(base):])) {
		return "", false
	}
	return rest[:len(rest)-tail-1], true
}

func proof(base string, key []byte) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(base))
	return hex.EncodeToString(h.Sum(nil))[:proofLen]
}

package daemon

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// keySize is the size of an instance's key in bytes.
const keySize = 32

// LoadKey reads the instance's key from the file "key" in a state directory,
// or makes it there. The key proves which containers and registrations are
// ours: it is kept apart from the journal, so that a lost journal costs
// history only, and it must be backed up.
func LoadKey(dir string) (fleet.Secret, error) {
	path := filepath.Join(dir, "key")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(path)
	}
	if err != nil {
		return fleet.Secret{}, fmt.Errorf("read instance key: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fleet.Secret{}, fmt.Errorf("read instance key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fleet.Secret{}, fmt.Errorf("read instance key: %s may be read by others; run \"chmod 600 %s\"", path, path)
	}
	hexed := strings.TrimSpace(string(text))
	if raw, err := hex.DecodeString(hexed); err != nil || len(raw) != keySize {
		return fleet.Secret{}, fmt.Errorf("read instance key: %s does not hold %d bytes in hex: restore it, or remove it together with every container of ours", path, keySize)
	}
	return fleet.NewSecret(hexed), nil
}

// makeKey writes a new key in whole or not at all.
func makeKey(path string) (fleet.Secret, error) {
	raw := make([]byte, keySize)
	if _, err := rand.Read(raw); err != nil {
		return fleet.Secret{}, fmt.Errorf("make instance key: %w", err)
	}
	hexed := hex.EncodeToString(raw)
	tmp, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return fleet.Secret{}, fmt.Errorf("make instance key: %w", err)
	}
	_, err = tmp.WriteString(hexed + "\n")
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fleet.Secret{}, fmt.Errorf("make instance key: %w", errors.Join(err, os.Remove(tmp.Name())))
	}
	return fleet.NewSecret(hexed), nil
}

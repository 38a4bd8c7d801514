package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
)

// keyBytes is the length of the instance's key.
const keyBytes = 32

// keyFact is where the journal keeps the fingerprint of the instance's key.
const keyFact = "instance-key"

// ownKey is the instance's key, which must be the one that the journal was
// begun with: with another one everything that exists would be foreign, run on
// or not, and stay for ever.
func ownKey(ctx context.Context, j *journal.Journal, path string) (fleet.Secret, error) {
	known, _, err := j.Get(ctx, keyFact)
	if err != nil {
		return fleet.Secret{}, err
	}
	hint := fmt.Sprintf("restore it from a backup; to begin anew without it, move %s away (and -wal and -shm beside it): what the old key made is then not ours and must be removed by hand",
		filepath.Join(filepath.Dir(path), "journal.db"))
	_, err = os.Lstat(path)
	if begun := len(known) > 0 || j.LastEvent() > 0; begun && errors.Is(err, fs.ErrNotExist) {
		return fleet.Secret{}, hinted{fmt.Errorf("read instance key %s: it is gone, and the journal beside it was begun with it", path), hint}
	}
	key, err := instanceKey(path)
	if err != nil {
		return fleet.Secret{}, err
	}
	switch print := fingerprint(key); string(known) {
	case print:
		return key, nil
	case "":
		return key, j.Put(ctx, keyFact, []byte(print))
	default:
		return fleet.Secret{}, hinted{fmt.Errorf("read instance key %s: its fingerprint is %s, and the journal beside it was begun with %s", path, print, known), hint}
	}
}

// fingerprint tells keys apart and gives nothing of them away.
func fingerprint(key fleet.Secret) string {
	sum := sha256.Sum256([]byte(key.Reveal()))
	return hex.EncodeToString(sum[:8])
}

// instanceKey reads the key that proves containers and registrations are this
// dayfly's, and makes one at the first start. It is apart from the journal,
// which may be lost: without the key, what it made is foreign.
func instanceKey(path string) (fleet.Secret, error) {
	text, err := readSecretFile(path, true)
	if errors.Is(err, fs.ErrNotExist) {
		return newKey(path)
	}
	if err != nil {
		return fleet.Secret{}, fmt.Errorf("read instance key %s: %w", path, err)
	}
	if key, err := hex.DecodeString(text); err != nil || len(key) != keyBytes {
		return fleet.Secret{}, hinted{fmt.Errorf("read instance key %s: it does not hold %d bytes in hex", path, keyBytes),
			"restore it from a backup; without it, runners that exist now must be removed by hand before it is made anew"}
	}
	return fleet.NewSecret(text), nil
}

// newKey writes a key so that a crash leaves either none or all of it.
func newKey(path string) (fleet.Secret, error) {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	text := hex.EncodeToString(key)
	if err := writeDurably(path, text+"\n"); err != nil {
		return fleet.Secret{}, fmt.Errorf("write instance key: %w", err)
	}
	return fleet.NewSecret(text), nil
}

func writeDurably(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

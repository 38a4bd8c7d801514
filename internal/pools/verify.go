package pools

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Verify says whose commits are obeyed. The keys are in files on this machine,
// never in the repository: what is to be verified must not say by what.
type Verify struct {
	Mode    VerifyMode
	Signers string // file in the form of OpenSSH's allowed_signers(5), for SSH signatures
	Keyring string // file of public OpenPGP keys, armored or not
}

// VerifyMode is how much of a branch must be signed.
type VerifyMode int

// The modes.
const (
	VerifyOff    VerifyMode = iota
	VerifyHead              // the newest commit
	VerifyStrict            // every commit since the one in force
)

var verifyModes = [...]string{"off", "head", "strict"}

func (m VerifyMode) String() string { return verifyModes[m] }

// ParseVerifyMode reads the word for a mode.
func ParseVerifyMode(s string) (VerifyMode, bool) {
	for i, name := range verifyModes {
		if s == name {
			return VerifyMode(i), true
		}
	}
	return VerifyOff, false
}

// maxSkew is how far a commit's clock may be ahead of ours.
const maxSkew = 10 * time.Minute

// maxTrust bounds a file of keys.
const maxTrust = 4 << 20

// trust is what the files of a Verify say.
type trust struct {
	ssh  []sshSigner
	pgp  openpgp.EntityList
	hash string // changes when the files do
}

// Check reads the files and reports what is wrong with them.
func (v Verify) Check() error {
	_, err := v.load()
	return err
}

// load reads the files. Its errors are about this machine's configuration, not
// about a commit.
func (v Verify) load() (*trust, error) {
	t := &trust{}
	sum := sha256.New()
	read := func(file string, parse func([]byte) error) error {
		if file == "" {
			return nil
		}
		text, err := readBounded(file)
		if err == nil {
			fmt.Fprintf(sum, "%d ", len(text))
			sum.Write(text)
			err = parse(text)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		return nil
	}
	err := errors.Join(
		read(v.Signers, func(text []byte) (err error) {
			if t.ssh, err = parseSigners(text); err != nil {
				err = fmt.Errorf("%w: %w", err, fleet.ErrInvalid)
			}
			return err
		}),
		read(v.Keyring, func(text []byte) (err error) {
			if t.pgp, err = parseKeyring(text); err != nil {
				err = fmt.Errorf("%w: %w", err, fleet.ErrInvalid)
			}
			return err
		}))
	if err != nil {
		return nil, err
	}
	if len(t.ssh)+len(t.pgp) == 0 {
		return nil, fmt.Errorf("verify commits: there is no key to verify them by: %w", fleet.ErrInvalid)
	}
	t.hash = hex.EncodeToString(sum.Sum(nil))
	return t, nil
}

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, kindOfFile(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTrust+1))
	if err == nil && len(text) > maxTrust {
		err = fmt.Errorf("more than %d bytes: %w", maxTrust, fleet.ErrInvalid)
	}
	return text, err
}

func parseKeyring(text []byte) (openpgp.EntityList, error) {
	if bytes.Contains(text, []byte("-----BEGIN PGP")) {
		return openpgp.ReadArmoredKeyRing(bytes.NewReader(text))
	}
	return openpgp.ReadKeyRing(bytes.NewReader(text))
}

// judge returns who signed a commit, or why nobody whom we believe did. A key
// must be valid at the commit's own time and now: who steals an expired key
// can date a commit back, but not us.
func (t *trust) judge(c rawCommit, now time.Time) (string, error) {
	switch {
	case len(c.signature) == 0:
		return "", errors.New("it is not signed")
	case c.committed.After(now.Add(maxSkew)):
		return "", fmt.Errorf("it is dated %s, which is in the future", c.committed.Format(time.RFC3339))
	case bytes.HasPrefix(c.signature, []byte("-----BEGIN SSH SIGNATURE-----")):
		return t.judgeSSH(c, now)
	case bytes.HasPrefix(c.signature, []byte("-----BEGIN PGP SIGNATURE-----")):
		return t.judgePGP(c, now)
	}
	return "", errors.New("its signature is neither SSH's nor OpenPGP's")
}

func (t *trust) judgeSSH(c rawCommit, now time.Time) (string, error) {
	sig, err := sshsig.Unarmor(c.signature)
	if err != nil {
		return "", fmt.Errorf("its SSH signature cannot be read: %w", oneLine(err))
	}
	if sig.Signature.Format == ssh.KeyAlgoRSA { // SHA-1; PROTOCOL.sshsig forbids it
		return "", errors.New("its SSH signature is made with SHA-1")
	}
	if err := sshsig.Verify(bytes.NewReader(c.payload), sig, sig.PublicKey, sig.HashAlgorithm, gitNamespace); err != nil {
		return "", fmt.Errorf("its SSH signature does not fit: %w", oneLine(err))
	}
	why := fmt.Errorf("it is signed by an SSH key that is not allowed, %s", ssh.FingerprintSHA256(sig.PublicKey))
	for i := range t.ssh {
		s := &t.ssh[i]
		if !bytes.Equal(s.key.Marshal(), sig.PublicKey.Marshal()) {
			continue
		}
		if why = errors.Join(s.allows(c.committed), s.allows(now)); why == nil {
			return s.who, nil
		}
		why = oneLine(why)
	}
	return "", why
}

func (t *trust) judgePGP(c rawCommit, now time.Time) (string, error) {
	block, err := armor.Decode(bytes.NewReader(c.signature))
	if err != nil || block.Type != openpgp.SignatureType {
		return "", errors.New("its OpenPGP signature cannot be read")
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	sig, who, err := openpgp.VerifyDetachedSignature(t.pgp, bytes.NewReader(c.payload), block.Body, config)
	switch {
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return "", errors.New("it is signed by an OpenPGP key that is not allowed")
	case err != nil:
		return "", fmt.Errorf("its OpenPGP signature does not fit: %w", oneLine(err))
	case sig.Hash == crypto.SHA1 || sig.Hash == crypto.MD5 || sig.Hash == crypto.RIPEMD160:
		return "", fmt.Errorf("its OpenPGP signature is made with %s", sig.Hash)
	}
	return pgpName(who), checkPGP(t.pgp, sig)
}

// checkPGP refuses signatures of keys that are too weak to be believed.
func checkPGP(ring openpgp.EntityList, sig *packet.Signature) error {
	if sig.IssuerKeyId == nil {
		return errors.New("its OpenPGP signature does not name its key")
	}
	for _, key := range ring.KeysById(*sig.IssuerKeyId) {
		bits, err := key.PublicKey.BitLength()
		switch {
		case key.PublicKey.PubKeyAlgo == packet.PubKeyAlgoDSA:
			return errors.New("it is signed by a DSA key, which is not believed any more")
		case err == nil && key.PublicKey.PubKeyAlgo == packet.PubKeyAlgoRSA && bits < minRSABits:
			return fmt.Errorf("it is signed by an RSA key of %d bits: want at least %d", bits, minRSABits)
		}
	}
	return nil
}

// pgpName is a key's owner, for people.
func pgpName(e *openpgp.Entity) string {
	if id := e.PrimaryIdentity(); id != nil && id.Name != "" {
		return strings.Join(strings.FieldsFunc(id.Name, isControl), " ")
	}
	return e.PrimaryKey.KeyIdString()
}

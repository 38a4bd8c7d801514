package pools

import (
	"bufio"
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// sshSigner is a line of an allowed_signers file.
type sshSigner struct {
	who           string // principals, for people
	key           ssh.PublicKey
	namespaces    []string // empty: all
	after, before time.Time
}

// gitNamespace is what git signs commits in (gpg-interface.c).
const gitNamespace = "git"

// minRSABits is the shortest RSA key that is believed, of SSH and OpenPGP.
const minRSABits = 2048

// parseSigners reads a file in the form of ssh-keygen's allowed_signers. A line
// that cannot be honoured is an error: to skip it would lock its owner out, or
// let somebody in whom an option keeps out.
func parseSigners(text []byte) ([]sshSigner, error) {
	var all []sshSigner
	scanner := bufio.NewScanner(bytes.NewReader(text))
	for number := 1; scanner.Scan(); number++ {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s, err := parseSigner(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		all = append(all, s)
	}
	return all, scanner.Err()
}

func parseSigner(line string) (sshSigner, error) {
	who, rest, ok := cutPrincipals(line)
	if !ok {
		return sshSigner{}, errors.New("want PRINCIPALS [OPTIONS] KEY-TYPE KEY")
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(rest))
	if err != nil {
		return sshSigner{}, errors.New("it has no public key that can be read")
	}
	s := sshSigner{who: who, key: key}
	for _, option := range options {
		if err := s.option(option); err != nil {
			return sshSigner{}, err
		}
	}
	return s, checkKey(key)
}

// cutPrincipals splits off the first field, which may be in quotes.
func cutPrincipals(line string) (who, rest string, ok bool) {
	if quoted, found := strings.CutPrefix(line, `"`); found {
		who, rest, ok = strings.Cut(quoted, `"`)
	} else if i := strings.IndexAny(line, " \t"); i > 0 {
		who, rest, ok = line[:i], line[i:], true
	}
	return who, strings.TrimSpace(rest), ok && who != ""
}

func (s *sshSigner) option(text string) (err error) {
	name, value, _ := strings.Cut(text, "=")
	value = strings.Trim(value, `"`)
	switch strings.ToLower(name) {
	case "namespaces":
		s.namespaces = strings.Split(value, ",")
	case "valid-after":
		s.after, err = parseMoment(value)
	case "valid-before":
		s.before, err = parseMoment(value)
	case "cert-authority":
		return errors.New("certificates (cert-authority) are not supported; list the keys themselves")
	default:
		return fmt.Errorf("option %.40q is not known", name)
	}
	return err
}

// parseMoment reads YYYYMMDD[Z] or YYYYMMDDHHMM[SS][Z] (ssh-keygen(1)). Without
// the Z it is this machine's own time.
func parseMoment(text string) (time.Time, error) {
	zone := time.Local
	digits, utc := strings.CutSuffix(text, "Z")
	if utc {
		zone = time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(layout) == len(digits) {
			if t, err := time.ParseInLocation(layout, digits, zone); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("%.40q is no time: want YYYYMMDD, or YYYYMMDDHHMM, with a Z for UTC", text)
}

// checkKey refuses keys that are too weak to be believed.
func checkKey(key ssh.PublicKey) error {
	if key.Type() == "ssh-dss" {
		return errors.New("DSA keys are not believed any more")
	}
	if wrapped, ok := key.(ssh.CryptoPublicKey); ok {
		if k, ok := wrapped.CryptoPublicKey().(*rsa.PublicKey); ok && k.N.BitLen() < minRSABits {
			return fmt.Errorf("its RSA key has %d bits: want at least %d", k.N.BitLen(), minRSABits)
		}
	}
	return nil
}

// allows reports why s may not sign commits at a time, or nil.
func (s *sshSigner) allows(at time.Time) error {
	switch {
	case len(s.namespaces) > 0 && !matchAny(s.namespaces, gitNamespace):
		return fmt.Errorf("the key of %s is allowed for namespaces %s, not for %s", s.who, strings.Join(s.namespaces, ", "), gitNamespace)
	case !s.after.IsZero() && at.Before(s.after):
		return fmt.Errorf("the key of %s is valid from %s only", s.who, s.after.UTC().Format(time.RFC3339))
	case !s.before.IsZero() && !at.Before(s.before):
		return fmt.Errorf("the key of %s was valid until %s", s.who, s.before.UTC().Format(time.RFC3339))
	}
	return nil
}

// matchAny is OpenSSH's match_pattern_list without negation, which nobody uses
// for namespaces (believed).
func matchAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, name); err == nil && ok {
			return true
		}
	}
	return false
}

package fleet

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Manifest says what a container is, in its description. A clone takes its
// template's description unless it is given one, so the manifest is there from
// the clone call on.
type Manifest struct {
	Schema   int // 1
	Name     string
	Pool     string
	Scope    string
	Template Ref
	Node     string
	VMID     VMID
	Instance string // which dayfly made it
	Created  time.Time

	// Configured is false from the clone call until size and network are set:
	// what was left between the two must not run.
	Configured bool
	// Launched is true from before a JIT config reaches the container, where
	// nothing else of the configuration says so: it is never used again.
	Launched bool
}

const (
	// ManifestSchema is the form that Sign writes and ReadManifest reads.
	ManifestSchema = 1

	manifestLine  = "dayfly-runner:"
	signatureLine = "dayfly-signature:"
)

// manifestJSON is the line in the description.
type manifestJSON struct {
	Schema     int       `json:"schema"`
	Name       string    `json:"name"`
	Pool       string    `json:"pool"`
	Scope      string    `json:"scope"`
	Family     string    `json:"family"`
	Version    string    `json:"version"`
	Node       string    `json:"node"`
	VMID       VMID      `json:"vmid"`
	Instance   string    `json:"instance"`
	Created    time.Time `json:"created"`
	Configured bool      `json:"configured"`
	Launched   bool      `json:"launched,omitempty"`
}

// Sign returns the description that carries m and its HMAC-SHA256.
func (m Manifest) Sign(key Secret) string {
	line, err := json.Marshal(manifestJSON{m.Schema, m.Name, m.Pool, m.Scope, m.Template.Family,
		m.Template.Version, m.Node, m.VMID, m.Instance, m.Created.UTC(), m.Configured, m.Launched})
	if err != nil { // a time beyond year 9999
		panic(err)
	}
	return fmt.Sprintf("Runner of pool %s, made by dayfly, which knows it by these lines. Do not edit.\n\n%s%s\n%s%s\n",
		m.Pool, manifestLine, line, signatureLine, signature(key, line))
}

func signature(key Secret, line []byte) string {
	h := hmac.New(sha256.New, []byte(key.Reveal()))
	h.Write([]byte("dayfly manifest\n")) // the key signs other things too
	h.Write(line)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// ReadManifest reads the manifest in the description of container id named
// name. A manifest of another container, or one changed in any byte, is an
// error.
func ReadManifest(description string, key Secret, id VMID, name string) (Manifest, error) {
	line, err := OnlyLine(description, manifestLine)
	if err != nil {
		return Manifest{}, err
	}
	proof, err := OnlyLine(description, signatureLine)
	if err != nil {
		return Manifest{}, err
	}
	if !hmac.Equal([]byte(proof), []byte(signature(key, []byte(line)))) {
		return Manifest{}, errors.New("manifest is not signed by this dayfly")
	}
	m, err := ClaimedManifest(description)
	switch {
	case err != nil:
		return Manifest{}, err
	case m.Schema != ManifestSchema:
		return Manifest{}, fmt.Errorf("manifest has schema %d, want %d", m.Schema, ManifestSchema)
	case m.VMID != id:
		return Manifest{}, fmt.Errorf("manifest is that of VMID %d", m.VMID)
	case m.Name != name:
		return Manifest{}, fmt.Errorf("manifest is that of %s", m.Name)
	}
	return m, nil
}

// ClaimedManifest reads a manifest without asking who signed it: what it says
// is a claim.
func ClaimedManifest(description string) (Manifest, error) {
	line, err := OnlyLine(description, manifestLine)
	if err != nil {
		return Manifest{}, err
	}
	var j manifestJSON
	if err := json.Unmarshal([]byte(line), &j); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	return Manifest{j.Schema, j.Name, j.Pool, j.Scope, Ref{Family: j.Family, Version: j.Version},
		j.Node, j.VMID, j.Instance, j.Created, j.Configured, j.Launched}, nil
}

// OnlyLine returns what follows prefix on the only line that begins with it.
func OnlyLine(description, prefix string) (string, error) {
	var found []string
	for l := range strings.Lines(description) {
		if rest, ok := strings.CutPrefix(strings.TrimRight(l, "\r\n"), prefix); ok {
			found = append(found, rest)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("no line %q in the description", prefix)
	case 1:
		return found[0], nil
	default:
		return "", fmt.Errorf("%d lines %q in the description", len(found), prefix)
	}
}

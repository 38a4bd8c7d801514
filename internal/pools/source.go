package pools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Set is one revision of the pool files, read without error.
type Set struct {
	Desired  fleet.Desired
	Origin   string            // what the source was called
	Revision string            // a commit's id, or "dir:" and a hash of the files
	Signer   string            // who signed the commit; empty when that was not verified
	Files    map[string][]byte // by path below the source's own path
	Warnings Diagnostics
}

// Source is where pool files come from.
type Source interface {
	// Load reads the newest revision. It returns ErrUnchanged when that was
	// read already; *Invalid when the revision is refused; and otherwise an
	// error of one of fleet's kinds: ErrUnavailable is worth another try,
	// ErrDenied and ErrNotFound need a person.
	Load(ctx context.Context, known Known) (Set, error)

	// At reads one revision, for a preview: a branch, a tag, or a commit that
	// the server gives. Nobody's signature is asked for.
	At(ctx context.Context, revision string) (Set, error)

	// Concerns reports whether a push to a branch of a repository
	// ("acme/pools", "refs/heads/main"; empty: any) may have brought a new
	// revision. It errs on the side of looking.
	Concerns(repo, ref string) bool

	// String names the source, without credentials.
	String() string
}

// Known is what the caller of Load knows already. The zero value is nothing.
type Known struct {
	Read    string // revision read last, of a Set or an Invalid
	InForce Set    // what a new revision would replace
}

// ErrUnchanged says that the newest revision is the known one.
var ErrUnchanged = errors.New("pool files unchanged")

// Invalid is a revision that was read and refused. Reading it again gives the
// same, so its Revision is worth remembering.
type Invalid struct {
	Revision    string
	Diagnostics Diagnostics
}

func (e *Invalid) Error() string {
	return fmt.Sprintf("read pool files of %s: %s", e.Revision, e.Diagnostics.Error())
}

// Is makes it a fleet.ErrInvalid.
func (*Invalid) Is(target error) bool { return target == fleet.ErrInvalid }

// newSet parses files of a revision. Notes are diagnostics about what was not
// read.
func newSet(revision string, files map[string][]byte, notes ...*hcl.Diagnostic) (Set, error) {
	desired, diags := parse(files)
	d := newDiagnostics(append(diags, notes...), files)
	if d.HasErrors() {
		return Set{}, &Invalid{revision, d}
	}
	return Set{Desired: desired, Revision: revision, Files: files, Warnings: d}, nil
}

// refused is an Invalid about the revision as a whole.
func refused(revision, summary, format string, args ...any) *Invalid {
	return &Invalid{revision, newDiagnostics(hcl.Diagnostics{problem(nil, summary, format, args...)}, nil)}
}

// stored is how a Set is kept.
type stored struct {
	Format   int               `json:"format"`
	Origin   string            `json:"origin,omitempty"`
	Revision string            `json:"revision"`
	Signer   string            `json:"signer,omitempty"`
	Files    map[string][]byte `json:"files"`
}

const (
	storedFormat = 1
	maxStored    = 2*maxTotal + maxFiles*(maxPath*6+16) + 16384 // base64, and names with every byte escaped
)

// Encode makes a Set storable: its files, not what they were read as, so that
// a later release reads them with its own eyes.
func Encode(s Set) []byte {
	data, err := json.Marshal(stored{storedFormat, s.Origin, s.Revision, s.Signer, s.Files})
	if err != nil {
		panic("encode pool files: " + err.Error()) // strings and bytes cannot fail
	}
	return data
}

// Decode reads what Encode made. The data is trusted no more than a
// repository: the same guards apply, and the error is an *Invalid when this
// release refuses the files.
func Decode(data []byte) (Set, error) {
	if len(data) > maxStored {
		return Set{}, fmt.Errorf("decode pool files: %d bytes are more than pool files can have: %w", len(data), fleet.ErrInvalid)
	}
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return Set{}, fmt.Errorf("decode pool files: %w: %w", err, fleet.ErrInvalid)
	}
	if s.Format != storedFormat {
		return Set{}, fmt.Errorf("decode pool files: format %d is not known: %w", s.Format, fleet.ErrInvalid)
	}
	set, err := newSet(s.Revision, s.Files)
	set.Origin, set.Signer = s.Origin, s.Signer
	return set, err
}

// poolFile reports whether a path names a pool file. JSON is among them to be
// refused by name rather than overlooked.
func poolFile(path string) bool {
	return strings.HasSuffix(path, ".hcl") || strings.HasSuffix(path, ".hcl.json")
}

// hidden reports whether a file or directory is left out, as version control's
// own and editors' copies are.
func hidden(name string) bool { return strings.HasPrefix(name, ".") }

package pools

import (
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// language checks the dayfly block, before anything else is judged.
func (r *reader) language(list hcl.Blocks) (bool, hcl.Diagnostics) {
	if len(list) == 0 {
		return false, hcl.Diagnostics{problem(nil, "Missing dayfly block",
			"One of the files must say which version of the language they are written in: dayfly { schema = %d }", schemaVersion)}
	}
	b, diags := single(list)
	var body dayflyBlock
	diags = append(diags, decode("dayfly", b.Body, &body)...)
	if body.Schema == nil {
		diags = append(diags, problem(&b.DefRange, "Missing schema", "Write schema = %d.", schemaVersion))
	}
	got := r.count(body.Schema, 1, 1_000_000)
	if r.good(body.Schema) && got != schemaVersion {
		at := body.Schema.Expr.Range()
		return false, hcl.Diagnostics{problem(&at, "Unknown schema",
			"This release of dayfly reads schema %d, and these files are written in schema %d. Install a release that reads it.",
			schemaVersion, got)}
	}
	wrong := r.release(body.Required, release())
	if wrong != nil {
		return false, hcl.Diagnostics{wrong}
	}
	r.report(diags...)
	return true, nil
}

// release is the program's own version, nil for a build without one. The
// version that the go command derives for an untagged commit is none.
func release() *version.Version {
	info, ok := debug.ReadBuildInfo()
	if !ok || !strings.HasPrefix(info.Main.Version, "v") {
		return nil
	}
	v, err := version.NewVersion(strings.TrimPrefix(info.Main.Version, "v"))
	if err != nil || v.Prerelease() != "" || v.Metadata() != "" {
		return nil
	}
	return v
}

// release reports whether required_version forbids this release.
func (r *reader) release(a *hcl.Attribute, own *version.Version) *hcl.Diagnostic {
	v, ok := r.typed(a, cty.String, `A text such as ">= 0.1.0"`)
	if !ok {
		return nil
	}
	at := a.Expr.Range()
	want, err := version.NewConstraint(v.AsString())
	if err != nil {
		r.refuse(a, at, `Comparisons with versions are expected, such as ">= 0.1.0, < 2.0.0", not %.80q.`, v.AsString())
		return nil
	}
	if own == nil || want.Check(own) {
		return nil
	}
	return problem(&at, "Another release required", "These files require dayfly %s; this is %s.", want, own)
}

var constraintForm = regexp.MustCompile(`[~<>=!^*,|\s]`)

// version reads a template's version: an exact one, which "= 1.2.3" is too,
// comparisons, or nothing for the newest.
func (r *reader) version(a *hcl.Attribute) (string, fleet.Constraint) {
	v, ok := r.typed(a, cty.String, "A version in quotes")
	if !ok {
		return "", nil
	}
	if !constraintForm.MatchString(v.AsString()) {
		return r.text(a, versionForm, "A version of 1 to 64 letters, digits and _.+-"), nil
	}
	c, err := fleet.ParseConstraint(v.AsString())
	wrong := func(b fleet.Bound) bool { return !versionForm.MatchString(b.Version) }
	switch {
	case err != nil || slices.ContainsFunc(c, wrong):
		r.refuse(a, a.Expr.Range(), `An exact version is expected, or comparisons such as ">= 2.335, < 3" or "~> 2.335", not %.80q.`, v.AsString())
		return "", nil
	case len(c) == 1 && c[0].Op == "=":
		return c[0].Version, nil
	}
	return "", c
}

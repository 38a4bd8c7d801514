package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/dayfly-ci/dayfly/internal/pools"
)

// diagnostics is all that is wrong with a configuration.
type diagnostics struct {
	list  hcl.Diagnostics
	files map[string]*hcl.File
}

func (d *diagnostics) add(more hcl.Diagnostics) { d.list = append(d.list, more...) }

// at reports what is wrong with the value of an attribute or, when the file
// does not set it, with its block.
func (d *diagnostics) at(body hcl.Body, name, summary, format string, args ...any) {
	where := body.MissingItemRange()
	if b, ok := body.(*hclsyntax.Body); ok && b.Attributes[name] != nil {
		where = b.Attributes[name].Expr.Range()
	}
	d.list = append(d.list, &hcl.Diagnostic{
		Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &where,
	})
}

// inline are the names that people try for a secret itself.
var inline = map[string]string{
	"token": "token", "key": "key", "private_key": "key", "secret": "webhook_secret",
	"webhook_secret": "webhook_secret", "ssh_key": "ssh_key", "password": "token",
}

// explainUnknown says where secrets belong, where the file tries to hold one,
// and keeps that one out of what is printed.
func (d *diagnostics) explainUnknown() {
	for _, diag := range d.list {
		at := subject(diag)
		file := d.files[at.Filename]
		if diag.Summary != "Unsupported argument" || file == nil {
			continue
		}
		if name, ok := inline[string(at.SliceBytes(file.Bytes))]; ok {
			diag.Detail = fmt.Sprintf("A secret is never part of the configuration: put it into a file of its own and name that with %s_file, or use a systemd credential with %[1]s_credential.", name)
			d.files[at.Filename] = &hcl.File{Bytes: blank(file.Bytes, at.End.Byte)}
		}
	}
}

// blank hides the rest of a line, without moving what follows.
func blank(src []byte, from int) []byte {
	src = bytes.Clone(src)
	rest, _, _ := bytes.Cut(src[from:], []byte("\n"))
	n := copy(rest, " = [secret]")
	for i := range rest[n:] {
		rest[n+i] = ' '
	}
	return src
}

// tidy sorts by place and drops what only follows from another error: HCL
// finds the value of a wrong expression wrong as well.
func (d *diagnostics) tidy() {
	seen := map[hcl.Range]bool{}
	d.list = slices.DeleteFunc(d.list, func(diag *hcl.Diagnostic) bool {
		line := subject(diag)
		line.Start, line.End = hcl.Pos{Line: line.Start.Line}, hcl.Pos{}
		again := seen[line] && diag.Summary == "Unsuitable value type"
		seen[line] = true
		return again
	})
	slices.SortStableFunc(d.list, func(a, b *hcl.Diagnostic) int {
		return cmp.Compare(subject(a).Start.Byte, subject(b).Start.Byte)
	})
}

func subject(d *hcl.Diagnostic) hcl.Range {
	if d.Subject == nil {
		return hcl.Range{}
	}
	return *d.Subject
}

// write prints all of them with the lines they are about. Nothing is wrapped: a
// command in a hint is there to be copied.
func (d *diagnostics) write(w io.Writer, s style) error {
	return hcl.NewDiagnosticTextWriter(w, d.files, 0, bool(s)).WriteDiagnostics(d.list)
}

// report is the diagnostics as data, in the shape of those of pools.
func (d *diagnostics) report() pools.Report {
	r := pools.Report{FormatVersion: "1.0", Valid: !d.list.HasErrors(), Diagnostics: []pools.Diagnostic{}}
	for _, diag := range d.list {
		at := subject(diag)
		r.ErrorCount++ // a configuration has no warnings
		r.Diagnostics = append(r.Diagnostics, pools.Diagnostic{
			Severity: "error", Summary: diag.Summary, Detail: diag.Detail,
			Range: &pools.Range{Filename: at.Filename, Start: pools.Pos(at.Start), End: pools.Pos(at.End)},
		})
	}
	return r
}

// plural is "1 error", "2 errors".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// oneOf is "a, b or c".
func oneOf(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

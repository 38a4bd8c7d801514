package pools

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// maxDiagnostics is how many are kept: who has more has other worries.
const maxDiagnostics = 100

// Diagnostics is all that is wrong, or doubtful, in a set of pool files. The
// zero value has none.
type Diagnostics struct {
	list  hcl.Diagnostics
	files map[string]*hcl.File
	more  int // left out
}

func newDiagnostics(list hcl.Diagnostics, files map[string][]byte) Diagnostics {
	d := Diagnostics{list: distinct(list), files: map[string]*hcl.File{}}
	for name, src := range files {
		d.files[name] = &hcl.File{Bytes: src}
	}
	if len(d.list) > maxDiagnostics {
		d.more = len(d.list) - maxDiagnostics
		d.list = d.list[:maxDiagnostics]
	}
	return d
}

// distinct sorts by place, errors first, and drops repetitions: an attribute of
// defaults is checked once for each pool that inherits it. Expressions and
// values are dropped, because values may be large.
func distinct(list hcl.Diagnostics) hcl.Diagnostics {
	seen := map[string]bool{}
	var kept hcl.Diagnostics
	for _, d := range list {
		key := d.Summary + "\n" + place(d)
		if d.Subject == nil {
			key += d.Detail
		}
		if seen[key] {
			continue
		}
		seen[key] = true
		bare := *d
		bare.Expression, bare.EvalContext, bare.Context = nil, nil, nil
		kept = append(kept, &bare)
	}
	slices.SortStableFunc(kept, func(a, b *hcl.Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Severity, b.Severity), compareRanges(a.Subject, b.Subject))
	})
	return kept
}

func compareRanges(a, b *hcl.Range) int {
	if a == nil || b == nil {
		return cmp.Compare(btoi(a != nil), btoi(b != nil))
	}
	return cmp.Or(cmp.Compare(a.Filename, b.Filename), cmp.Compare(a.Start.Byte, b.Start.Byte))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func place(d *hcl.Diagnostic) string {
	if d.Subject == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d,%d", d.Subject.Filename, d.Subject.Start.Line, d.Subject.Start.Column)
}

// Len is the number of diagnostics, warnings included.
func (d Diagnostics) Len() int { return len(d.list) + d.more }

// With adds diagnostics about files that were not read, see Files.
func (d Diagnostics) With(left Diagnostics) Diagnostics {
	d.list, d.more = slices.Concat(d.list, left.list), d.more+left.more
	return d
}

// HasErrors reports whether any of them is an error.
func (d Diagnostics) HasErrors() bool { return d.list.HasErrors() }

// Error lists the errors, one a line, without snippets.
func (d Diagnostics) Error() string {
	var lines []string
	for _, diag := range d.list {
		if diag.Severity != hcl.DiagError {
			continue
		}
		where := place(diag)
		if where != "" {
			where += ": "
		}
		lines = append(lines, where+diag.Summary+": "+diag.Detail)
	}
	if d.more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", d.more))
	}
	return strings.Join(lines, "\n")
}

// WriteText writes all diagnostics for people, with the lines they are about.
// Lines are wrapped at width, unless it is zero.
func (d Diagnostics) WriteText(w io.Writer, width int, color bool) error {
	for _, diag := range d.list {
		shown, files := d.excerpt(diag)
		if err := hcl.NewDiagnosticTextWriter(w, files, uint(max(width, 0)), color).WriteDiagnostic(shown); err != nil {
			return err
		}
	}
	if d.more > 0 {
		_, err := fmt.Fprintf(w, "And %d more.\n", d.more)
		return err
	}
	return nil
}

// excerpt makes a copy of a diagnostic about a file that has nothing but the
// lines to show. HCL's writer splits the whole file into characters for every
// diagnostic, which takes seconds for a hundred in a large file.
func (d Diagnostics) excerpt(diag *hcl.Diagnostic) (*hcl.Diagnostic, map[string]*hcl.File) {
	if diag.Subject == nil || d.files[diag.Subject.Filename] == nil {
		return diag, nil
	}
	src := d.files[diag.Subject.Filename].Bytes
	from, to := window(src, *diag.Subject)
	above := diag.Subject.Start.Line - 1
	at := *diag.Subject
	at.End.Byte = min(at.End.Byte, to) - from + above
	at.Start.Byte += above - from
	moved := *diag
	moved.Subject = &at
	text := append(bytes.Repeat([]byte{'\n'}, above), src[from:to]...)
	return &moved, map[string]*hcl.File{at.Filename: {Bytes: text}}
}

// window is the lines that a range is in, or the nearest part of them when
// they are long.
func window(src []byte, at hcl.Range) (from, to int) {
	const before, after = 200, 800
	start := min(at.Start.Byte, len(src))
	end := min(max(at.End.Byte, start), len(src), start+after)
	from = max(bytes.LastIndexByte(src[:start], '\n')+1, start-before)
	to = min(len(src), start+after)
	if i := bytes.IndexByte(src[end:to], '\n'); i >= 0 {
		to = end + i
	}
	for from < start && !utf8.RuneStart(src[from]) {
		from++
	}
	for to > end && to < len(src) && !utf8.RuneStart(src[to]) {
		to--
	}
	return from, to
}

// Report is diagnostics as data, in the shape of `terraform validate -json`.
type Report struct {
	FormatVersion string       `json:"format_version"`
	Valid         bool         `json:"valid"`
	ErrorCount    int          `json:"error_count"`
	WarningCount  int          `json:"warning_count"`
	Diagnostics   []Diagnostic `json:"diagnostics"`
}

// Diagnostic is one thing that is wrong.
type Diagnostic struct {
	Severity string   `json:"severity"` // "error" or "warning"
	Summary  string   `json:"summary"`
	Detail   string   `json:"detail"`
	Range    *Range   `json:"range,omitempty"`
	Snippet  *Snippet `json:"snippet,omitempty"`
}

// Range is a part of a file. End is the first position after it.
type Range struct {
	Filename string `json:"filename"`
	Start    Pos    `json:"start"`
	End      Pos    `json:"end"`
}

// Pos is a position: line and column count from one, bytes from zero.
type Pos struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

// Snippet is the lines that a range is in.
type Snippet struct {
	Context              *string  `json:"context"`
	Code                 string   `json:"code"`
	StartLine            int      `json:"start_line"`
	HighlightStartOffset int      `json:"highlight_start_offset"` // bytes into Code
	HighlightEndOffset   int      `json:"highlight_end_offset"`
	Values               []string `json:"values"` // always empty
}

// Report returns the diagnostics as data.
func (d Diagnostics) Report() Report {
	r := Report{FormatVersion: "1.0", Valid: !d.HasErrors(), Diagnostics: []Diagnostic{}}
	for _, diag := range d.list {
		one := Diagnostic{Severity: "error", Summary: diag.Summary, Detail: diag.Detail}
		if diag.Severity == hcl.DiagWarning {
			one.Severity = "warning"
			r.WarningCount++
		} else {
			r.ErrorCount++
		}
		if diag.Subject != nil {
			one.Range = &Range{diag.Subject.Filename, Pos(diag.Subject.Start), Pos(diag.Subject.End)}
			one.Snippet = d.snippet(*diag.Subject)
		}
		r.Diagnostics = append(r.Diagnostics, one)
	}
	return r
}

// MarshalJSON encodes the Report.
func (d Diagnostics) MarshalJSON() ([]byte, error) { return json.Marshal(d.Report()) }

// snippet cuts the lines of at out of its file.
func (d Diagnostics) snippet(at hcl.Range) *Snippet {
	file := d.files[at.Filename]
	if file == nil {
		return nil
	}
	from, to := window(file.Bytes, at)
	start := min(at.Start.Byte, len(file.Bytes))
	return &Snippet{
		Code: string(file.Bytes[from:to]), StartLine: at.Start.Line, Values: []string{},
		HighlightStartOffset: start - from, HighlightEndOffset: max(start, min(at.End.Byte, to)) - from,
	}
}

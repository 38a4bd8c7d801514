package pools

import (
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// reader turns attributes into Go values. It reports what is wrong with a
// value at the value, and remembers the attribute, so that a check of several
// values together is left out when one of them is not known.
type reader struct {
	*evaluator
	bad map[*hcl.Attribute]bool
}

func newReader(ev *evaluator) *reader { return &reader{ev, map[*hcl.Attribute]bool{}} }

// good reports whether all attributes are present and were read without error.
func (r *reader) good(attrs ...*hcl.Attribute) bool {
	for _, a := range attrs {
		if a == nil || r.bad[a] {
			return false
		}
	}
	return true
}

// refuse reports a bad value, once for an attribute that many pools inherit.
func (r *reader) refuse(a *hcl.Attribute, at hcl.Range, format string, args ...any) {
	r.bad[a] = true
	r.report(problem(&at, "Invalid "+a.Name, format, args...))
}

// typed evaluates a and checks its type; false when there is no such value.
func (r *reader) typed(a *hcl.Attribute, want cty.Type, hint string) (cty.Value, bool) {
	if a == nil {
		return cty.NilVal, false
	}
	v := r.value(a.Expr)
	switch {
	case v.IsNull(): // null is absence, but the default was already passed over
		r.refuse(a, a.Expr.Range(), "null is not a value here; leave the attribute out.")
	case v == cty.DynamicVal:
		r.bad[a] = true
	case v.Type() != want:
		r.refuse(a, a.Expr.Range(), "%s is expected, not %s.", hint, v.Type().FriendlyName())
	default:
		return v, true
	}
	return cty.NilVal, false
}

// count reads a whole number from low to high.
func (r *reader) count(a *hcl.Attribute, low, high int) int {
	v, ok := r.typed(a, cty.Number, "A number, without quotes,")
	if !ok {
		return 0
	}
	f := v.AsBigFloat()
	n, accuracy := f.Int64()
	if accuracy != big.Exact || n < int64(low) || n > int64(high) {
		r.refuse(a, a.Expr.Range(), "A whole number from %d to %d is expected, not %s.", low, high, f.Text('g', 10))
		return 0
	}
	return int(n)
}

func (r *reader) flag(a *hcl.Attribute) bool {
	v, ok := r.typed(a, cty.Bool, "true or false, without quotes,")
	return ok && v.True()
}

// text reads a text that re matches; what says so in words.
func (r *reader) text(a *hcl.Attribute, re interface{ MatchString(string) bool }, what string) string {
	v, ok := r.typed(a, cty.String, "A text in quotes")
	if !ok {
		return ""
	}
	s := v.AsString()
	if !re.MatchString(s) {
		r.refuse(a, a.Expr.Range(), "%s is expected, not %.80q.", what, s)
		return ""
	}
	return s
}

// item is one element of a list, with where it is written.
type item struct {
	text string
	at   hcl.Range
}

// list reads a list of 1 to most different texts.
func (r *reader) list(a *hcl.Attribute, most int, re *regexp.Regexp, what string) []item {
	if a == nil {
		return nil
	}
	v := r.value(a.Expr)
	if v == cty.DynamicVal {
		r.bad[a] = true
		return nil
	}
	if v.IsNull() || !isSequence(v.Type()) {
		r.refuse(a, a.Expr.Range(), "A list of texts is expected, such as [\"one\", \"two\"].")
		return nil
	}
	if n := v.LengthInt(); n < 1 || n > most {
		r.refuse(a, a.Expr.Range(), "A list of 1 to %d texts is expected, not of %d.", most, n)
		return nil
	}
	return r.items(a, v, re, what)
}

func isSequence(t cty.Type) bool { return t.IsTupleType() || t.IsListType() || t.IsSetType() }

func (r *reader) items(a *hcl.Attribute, list cty.Value, re *regexp.Regexp, what string) []item {
	var items []item
	seen := map[string]bool{}
	for i, v := range list.AsValueSlice() {
		at := elementRange(a.Expr, i)
		if !v.IsKnown() || v.IsNull() || v.Type() != cty.String {
			r.refuse(a, at, "Element %d of the list is not a text in quotes.", i+1)
			continue
		}
		s := v.AsString()
		switch {
		case !re.MatchString(s):
			r.refuse(a, at, "%s is expected, not %.120q.", what, s)
		case seen[strings.ToLower(s)]:
			r.refuse(a, at, "%q is in the list twice (upper and lower case count as one).", s)
		default:
			seen[strings.ToLower(s)] = true
			items = append(items, item{s, at})
		}
	}
	return items
}

// elementRange is where element i is written, or the whole expression when
// the list is computed.
func elementRange(e hcl.Expression, i int) hcl.Range {
	if tuple, ok := e.(*hclsyntax.TupleConsExpr); ok && i < len(tuple.Exprs) {
		return tuple.Exprs[i].Range()
	}
	return e.Range()
}

func texts(items []item) []string {
	var all []string
	for _, it := range items {
		all = append(all, it.text)
	}
	return all
}

// duration reads "90s" or "1h30m".
func (r *reader) duration(a *hcl.Attribute, low, high time.Duration) time.Duration {
	v, ok := r.typed(a, cty.String, `A duration in quotes, such as "90s",`)
	if !ok {
		return 0
	}
	return r.span(a, v.AsString(), low, high)
}

var dayForm = regexp.MustCompile(`^([0-9]{1,4})d$`)

func (r *reader) span(a *hcl.Attribute, s string, low, high time.Duration) time.Duration {
	text := s
	if days := dayForm.FindStringSubmatch(s); days != nil {
		n, _ := strconv.Atoi(days[1]) // at most four digits
		text = strconv.Itoa(24*n) + "h"
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		r.refuse(a, a.Expr.Range(), `A duration such as "90s", "5m", "1h30m" or "3d" is expected, not %.40q.`, s)
		return 0
	}
	if d < low || d > high {
		r.refuse(a, a.Expr.Range(), "A duration from %s to %s is expected, not %.40q.", brief(low), brief(high), s)
		return 0
	}
	return d
}

// backoff reads "2s..60s".
func (r *reader) backoff(a *hcl.Attribute, low, high time.Duration) (from, to time.Duration) {
	v, ok := r.typed(a, cty.String, `Two durations in quotes, such as "2s..60s",`)
	if !ok {
		return 0, 0
	}
	first, last, ok := strings.Cut(v.AsString(), "..")
	if !ok {
		r.refuse(a, a.Expr.Range(), `Two durations such as "2s..60s" are expected, not %.40q.`, v.AsString())
		return 0, 0
	}
	from, to = r.span(a, first, low, high), r.span(a, last, low, high)
	if r.good(a) && from > to {
		r.refuse(a, a.Expr.Range(), "The first duration, %s, is longer than the last, %s.", brief(from), brief(to))
	}
	return from, to
}

// brief writes a duration without its zero parts: 5m, not 5m0s.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

var (
	sizeForm  = regexp.MustCompile(`^([0-9]{1,9})(MiB|GiB|TiB)$`)
	sizeUnits = map[string]int{"MiB": 1, "GiB": 1 << 10, "TiB": 1 << 20}
)

// mebibytes reads "512MiB" or "8GiB"; "0" where low is zero.
func (r *reader) mebibytes(a *hcl.Attribute, low, high int) int {
	v, ok := r.typed(a, cty.String, `A size in quotes, such as "8GiB",`)
	if !ok {
		return 0
	}
	s := v.AsString()
	if s == "0" && low == 0 {
		return 0
	}
	m := sizeForm.FindStringSubmatch(s)
	if m == nil {
		r.refuse(a, a.Expr.Range(), `A size such as "512MiB", "8GiB" or "1TiB" is expected, not %.40q.%s`, s, sizeHint(s))
		return 0
	}
	n, _ := strconv.Atoi(m[1]) // at most nine digits
	if n *= sizeUnits[m[2]]; n < low || n > high {
		r.refuse(a, a.Expr.Range(), "A size from %s to %s is expected, not %q.", sizeText(low), sizeText(high), s)
		return 0
	}
	return n
}

// gibibytes reads the size of a disk, in MiB. It is of whole GiB: storages round
// others up, each as it likes, and then no container would be as its pool says.
func (r *reader) gibibytes(a *hcl.Attribute) int {
	n := r.mebibytes(a, 1<<10, maxMemoryMiB)
	if n%(1<<10) != 0 {
		r.refuse(a, a.Expr.Range(), "A size in whole GiB is expected, not %s.", sizeText(n))
		return 0
	}
	return n
}

// sizeText writes mebibytes in the largest unit that needs no fraction.
func sizeText(mebibytes int) string {
	for _, unit := range []string{"TiB", "GiB"} {
		if n := sizeUnits[unit]; mebibytes > 0 && mebibytes%n == 0 {
			return strconv.Itoa(mebibytes/n) + unit
		}
	}
	return strconv.Itoa(mebibytes) + "MiB"
}

var decimalForm = regexp.MustCompile(`^([0-9]{1,9}) ?([KMGT])i?[Bb]?$`)

// sizeHint guesses what was meant: Proxmox VE counts in powers of two only.
func sizeHint(s string) string {
	m := decimalForm.FindStringSubmatch(strings.ToUpper(s))
	if m == nil || m[2] == "K" {
		return ""
	}
	return ` Did you mean "` + m[1] + m[2] + `iB"?`
}

package pools

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// What a set of pool files may weigh. The limits are far above any honest
// configuration and far below what hurts the daemon.
const (
	maxFile   = 64 << 10  // bytes of one file
	maxTotal  = 512 << 10 // bytes of all files
	maxFiles  = 256
	maxTokens = 150_000 // of all files; a syntax tree takes about 300 bytes a token
	maxDepth  = 64      // brackets, templates and prefix operators inside each other
	maxPath   = 255     // bytes of a file's name
)

// guard refuses files that the HCL parser cannot be trusted with. The parser
// is recursive, and a few hundred thousand open brackets end the process with
// a stack overflow that no recover() catches; the lexer is not recursive, so
// depth is counted on tokens, before any parsing.
func guard(files map[string][]byte) hcl.Diagnostics {
	if len(files) == 0 {
		return hcl.Diagnostics{problem(nil, "No pool files", "There is no *.hcl file to read.")}
	}
	if len(files) > maxFiles {
		return hcl.Diagnostics{problem(nil, "Too many files",
			"There are %d pool files; the limit is %d.", len(files), maxFiles)}
	}
	var diags hcl.Diagnostics
	total := 0
	for _, name := range slices.Sorted(maps.Keys(files)) {
		total += len(files[name])
		diags = append(diags, guardFile(name, files[name])...)
	}
	if total > maxTotal {
		diags = append(diags, problem(nil, "Pool files too large",
			"All pool files together have %d bytes; the limit is %d.", total, maxTotal))
	}
	if diags.HasErrors() {
		return diags
	}
	return guardTokens(files)
}

func guardFile(name string, src []byte) hcl.Diagnostics {
	at := &hcl.Range{Filename: name, Start: hcl.InitialPos, End: hcl.InitialPos}
	switch {
	case len(name) > maxPath || !utf8.ValidString(name) || strings.ContainsFunc(name, isControl):
		return hcl.Diagnostics{problem(nil, "Unsafe file name",
			"The file name %.80q is longer than %d bytes or has control characters.", name, maxPath)}
	case strings.HasSuffix(name, ".json"):
		return hcl.Diagnostics{problem(at, "JSON is not supported",
			"%s: pool files are written in HCL's native syntax, in files ending in .hcl.", name)}
	case len(src) > maxFile:
		return hcl.Diagnostics{problem(at, "Pool file too large",
			"%s has %d bytes; the limit is %d.", name, len(src), maxFile)}
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func guardTokens(files map[string][]byte) hcl.Diagnostics {
	var diags hcl.Diagnostics
	count := 0
	for _, name := range slices.Sorted(maps.Keys(files)) {
		tokens, _ := hclsyntax.LexConfig(files[name], name, hcl.InitialPos)
		count += len(tokens)
		if deep := tooDeep(tokens); deep != nil {
			diags = append(diags, problem(deep, "Nested too deeply",
				"Brackets, templates and operators may be nested %d levels deep.", maxDepth))
		}
		if count > maxTokens {
			return append(diags, problem(nil, "Pool files too large",
				"All pool files together have more than %d words and signs.", maxTokens))
		}
	}
	return diags
}

// tooDeep returns where tokens nest deeper than maxDepth. Runs of prefix
// operators, splats and conditionals recurse in the parser as brackets do,
// so they count as depth until the expression they belong to has ended. A
// closing bracket that does not match closes nothing: broken files are counted
// too deep rather than too shallow.
func tooDeep(tokens hclsyntax.Tokens) *hcl.Range {
	open := []nesting{{closer: hclsyntax.TokenEOF}}
	depth := 0
	for i := range tokens {
		t := &tokens[i]
		top := &open[len(open)-1]
		switch {
		case closers[t.Type] != 0:
			open = append(open, nesting{closer: closers[t.Type]})
			depth++
		case t.Type == top.closer && len(open) > 1:
			depth -= top.operators + 1
			open = open[:len(open)-1]
		case slices.Contains(recursive, t.Type):
			if t.Type == hclsyntax.TokenStar && i > 0 && tokens[i-1].Type == hclsyntax.TokenOBrack {
				top = &open[len(open)-2] // of [*]: what nests is the splat, not its bracket
			}
			top.operators++
			depth++
		case top.ends(t.Type):
			depth -= top.operators
			top.operators = 0
		}
		if depth > maxDepth {
			return &t.Range
		}
	}
	return nil
}

// nesting is one open bracket and the operators pending in it.
type nesting struct {
	closer    hclsyntax.TokenType
	operators int
}

// ends reports whether t ends an expression. Newlines do so in bodies and
// objects only: within other brackets the parser skips them.
func (n nesting) ends(t hclsyntax.TokenType) bool {
	if t == hclsyntax.TokenNewline {
		return n.closer == hclsyntax.TokenCBrace || n.closer == hclsyntax.TokenEOF
	}
	return t == hclsyntax.TokenComma
}

var closers = map[hclsyntax.TokenType]hclsyntax.TokenType{
	hclsyntax.TokenOBrace:          hclsyntax.TokenCBrace,
	hclsyntax.TokenOBrack:          hclsyntax.TokenCBrack,
	hclsyntax.TokenOParen:          hclsyntax.TokenCParen,
	hclsyntax.TokenOQuote:          hclsyntax.TokenCQuote,
	hclsyntax.TokenOHeredoc:        hclsyntax.TokenCHeredoc,
	hclsyntax.TokenTemplateInterp:  hclsyntax.TokenTemplateSeqEnd,
	hclsyntax.TokenTemplateControl: hclsyntax.TokenTemplateSeqEnd,
}

var recursive = []hclsyntax.TokenType{
	hclsyntax.TokenBang, hclsyntax.TokenMinus, hclsyntax.TokenQuestion,
	hclsyntax.TokenStar, // as a splat
}

// problem is an error diagnostic.
func problem(at *hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	return &hcl.Diagnostic{
		Severity: hcl.DiagError, Subject: at,
		Summary: summary, Detail: fmt.Sprintf(format, args...),
	}
}

// caution is a warning diagnostic.
func caution(at *hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	d := problem(at, summary, format, args...)
	d.Severity = hcl.DiagWarning
	return d
}

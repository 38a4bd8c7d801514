package check

import (
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// ban is a text that stays out of some files.
type ban struct {
	text *regexp.Regexp
	in   func(bubbles, string) bool
	why  string
}

// The patterns are written so that none of them matches itself.
var bans = []ban{
	{regexp.MustCompile(`\b(TO[D]O|FIX[M]E|X{3})\b|panic\("not\simplemented`), source, "finish it or leave it out"},
	{regexp.MustCompile(`\btime\.S[l]eep\(`), awake, "a test waits for an event or in a synctest bubble"},
	{regexp.MustCompile(`\.Skip(Now)?\(\)`), tests, "a test that is skipped says why"},
	{regexp.MustCompile(`\bproxy\.golang\.org\b|\bregistry\.npmjs\b|\bdeb\.debian\.org\b`), all, "which server packages come from is the machine's affair"},
	{regexp.MustCompile(`(?i)\bthis\ssession\b|\bsub-?agents?\b`), all, "the text speaks of the project alone"},
}

func all(_ bubbles, path string) bool   { return path != "go.sum" }
func tests(_ bubbles, path string) bool { return strings.HasSuffix(path, "_test.go") }

// awake are the tests on the real clock: those of packages without a bubble.
func awake(b bubbles, file string) bool { return tests(b, file) && !b[path.Dir(file)] }

// bubbles are the folders whose tests run in a synctest bubble, where a sleep
// only turns the clock.
type bubbles map[string]bool

func findBubbles(t Tree) (bubbles, error) {
	b := bubbles{}
	_, err := each(t, func(file, text string) ([]Finding, error) {
		if tests(nil, file) && strings.Contains(text, `"testing/synctest"`) {
			b[path.Dir(file)] = true
		}
		return nil, nil
	})
	return b, err
}

func source(_ bubbles, file string) bool {
	switch path.Ext(file) {
	case ".go", ".sh", ".hcl", ".md", ".service", ".sql":
		return true
	}
	return path.Base(file) == "Makefile"
}

// Words finds texts that have no place in the repository, and the absolute
// paths of the tree itself and of the test data beside it, which mean nothing
// on another machine.
func Words(t Tree) ([]Finding, error) {
	root, err := filepath.Abs(t.Root)
	if err != nil {
		return nil, err
	}
	here := regexp.MustCompile(`(` + regexp.QuoteMeta(root) + `|` +
		regexp.QuoteMeta(filepath.Join(filepath.Dir(root), "shared")) + `)\b`)
	in, err := findBubbles(t)
	if err != nil {
		return nil, err
	}
	list := append([]ban{{here, all, "a path of one machine"}}, bans...)

	var found []Finding
	for _, path := range t.Paths {
		text, err := t.Read(path)
		if err != nil {
			return nil, err
		}
		if !utf8.ValidString(text) {
			continue // a binary file
		}
		for _, b := range list {
			if b.in(in, path) {
				found = append(found, b.find(path, text)...)
			}
		}
	}
	return found, nil
}

func (b ban) find(path, text string) []Finding {
	var found []Finding
	for _, at := range b.text.FindAllStringIndex(text, -1) {
		line := strings.Count(text[:at[0]], "\n") + 1
		found = append(found, Finding{path, line, text[at[0]:at[1]] + ": " + b.why})
	}
	return found
}

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var (
	fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	code  = regexp.MustCompile("`([^`]+)`")
	link  = regexp.MustCompile(`\]\(([^)#:]+)\)`)
)

// TestREADMENamesWhatExists: commands with their flags, targets of make, files
// and folders; and every folder has its place in the code map.
func TestREADMENamesWhatExists(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile(filepath.Join("..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	root := (&program{}).command()
	commands := 0
	for _, line := range codeOf(string(text)) {
		words := strings.Fields(line)
		switch name := filepath.Base(words[0]); {
		case name == "dayfly" && len(words) > 1:
			commands++
			cmd, _, err := root.Find(words[1:])
			if err != nil || cmd == root {
				t.Errorf("%q: there is no such command: %v", line, err)
				continue
			}
			checkFlags(t, line, words, cmd)
		case name == "make":
			for _, target := range words[1:] {
				if !regexp.MustCompile(`(?m)^` + target + `:`).Match(makefile) {
					t.Errorf("%q: there is no such target", line)
				}
			}
		case strings.HasPrefix(name, "--"):
			checkFlags(t, line, words, root.Commands()...)
		}
	}
	if commands < 8 {
		t.Errorf("%d commands are named, want 8 at least: the test sees too little", commands)
	}
	checkPlaces(t, string(text))
}

// codeOf lists what stands between backquotes, and the lines of shell blocks
// without their comments.
func codeOf(text string) []string {
	var all []string
	for _, block := range fence.FindAllStringSubmatch(text, -1) {
		if block[1] != "sh" {
			continue
		}
		for line := range strings.Lines(block[2]) {
			line, _, _ = strings.Cut(line, "#")
			all = append(all, line)
		}
	}
	for _, span := range code.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		all = append(all, strings.Join(strings.Fields(span[1]), " "))
	}
	var said []string
	for _, line := range all {
		if strings.TrimSpace(line) != "" {
			said = append(said, line)
		}
	}
	return said
}

// checkFlags checks that each flag of a line is one of the commands.
func checkFlags(t *testing.T, line string, words []string, of ...*cobra.Command) {
	t.Helper()
	for _, word := range words {
		name, ok := strings.CutPrefix(word, "--")
		if ok && !slices.ContainsFunc(of, func(c *cobra.Command) bool { return c.Flags().Lookup(name) != nil }) {
			t.Errorf("%q: there is no flag --%s", line, name)
		}
	}
}

// checkPlaces checks links, and that the code map names every folder.
func checkPlaces(t *testing.T, text string) {
	t.Helper()
	linked := map[string]bool{}
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		linked[strings.TrimSuffix(m[1], "/")] = true
		if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
			t.Errorf("link to nothing: %v", err)
		}
	}
	for _, parent := range []string{"", "internal"} {
		entries, err := os.ReadDir(filepath.Join("..", parent))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			path := filepath.ToSlash(filepath.Join(parent, e.Name()))
			if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && path != "internal" && path != "build" && !linked[path] {
				t.Errorf("the code map does not name %s", path)
			}
		}
	}
}

package pools

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestDiagnostics reads testdata/*.txtar: pool files, and what people are told
// about them. Lines of "want" are the whole text of WriteText.
func TestDiagnostics(t *testing.T) {
	archives, err := filepath.Glob("testdata/diagnostics/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got, want := told(archive)
			if got == want {
				return
			}
			if !*update {
				t.Fatalf("got:\n%s\nwant:\n%s", got, want)
			}
			rewrite(t, name, archive, got)
		})
	}
}

func told(archive *txtar.Archive) (got, want string) {
	files := map[string][]byte{}
	for _, f := range archive.Files {
		if f.Name == "want" {
			want = string(f.Data)
			continue
		}
		files[f.Name] = f.Data
	}
	_, diags := Parse(files)
	var text bytes.Buffer
	_ = diags.WriteText(&text, 0, false) // a buffer does not fail
	return text.String(), want
}

func rewrite(t *testing.T, name string, archive *txtar.Archive, got string) {
	t.Helper()
	var kept []txtar.File
	for _, f := range archive.Files {
		if f.Name != "want" {
			kept = append(kept, f)
		}
	}
	archive.Files = append(kept, txtar.File{Name: "want", Data: []byte(got)})
	if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDiagnosticsAsData(t *testing.T) {
	files := map[string][]byte{"a.hcl": []byte(head + "pool \"x\" {\n  enabled = \"yes\"\n  labels  = [\"ubuntu-latest\"]\n}\n")}
	_, diags := Parse(files)
	data, err := json.Marshal(diags)
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if r.Valid || r.ErrorCount == 0 || r.WarningCount != 1 || r.FormatVersion != "1.0" {
		t.Errorf("got valid %v, %d errors, %d warnings, format %q", r.Valid, r.ErrorCount, r.WarningCount, r.FormatVersion)
	}
	for _, d := range r.Diagnostics {
		if d.Summary != "Invalid enabled" {
			continue
		}
		if got := d.Snippet.Code[d.Snippet.HighlightStartOffset:d.Snippet.HighlightEndOffset]; got != `"yes"` {
			t.Errorf("the snippet highlights %q", got)
		}
		want := Range{"a.hcl", Pos{5, 13, 47}, Pos{5, 18, 52}}
		if *d.Range != want || d.Snippet.StartLine != 5 || d.Snippet.Code != `  enabled = "yes"` {
			t.Errorf("got range %+v, snippet %+v", *d.Range, *d.Snippet)
		}
		return
	}
	t.Errorf("no diagnostic about enabled in %s", data)
}

func TestValidFilesAreValidAsData(t *testing.T) {
	_, diags := Parse(exampleFiles(t))
	const want = `{"format_version":"1.0","valid":true,"error_count":0,"warning_count":0,"diagnostics":[]}`
	if got, _ := json.Marshal(diags); string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestManyDiagnosticsAreCut(t *testing.T) {
	_, diags := Parse(map[string][]byte{"a.hcl": []byte(head + numbered("x%d = 1\n", 500))})
	var text bytes.Buffer
	if err := diags.WriteText(&text, 80, true); err != nil {
		t.Fatal(err)
	}
	if diags.Len() != 500 || !strings.HasSuffix(text.String(), "And 400 more.\n") {
		t.Errorf("%d diagnostics, text ends with %q", diags.Len(), text.String()[text.Len()-40:])
	}
}

// TestLongLinesAreShownInPart keeps a text of a hundred diagnostics readable.
func TestLongLinesAreShownInPart(t *testing.T) {
	line := "locals {\n  é = [" + strings.Repeat("\"é\", ", 3000) + "local.x, " + strings.Repeat("\"é\", ", 3000) + "]\n}\n"
	_, diags := Parse(map[string][]byte{"a.hcl": []byte(head + line)})
	var text bytes.Buffer
	if err := diags.WriteText(&text, 80, false); err != nil {
		t.Fatal(err)
	}
	if text.Len() > 2000 || !utf8.Valid(text.Bytes()) || !strings.Contains(text.String(), "local.x") {
		t.Errorf("the text has %d bytes: %.300s", text.Len(), text.String())
	}
	s := diags.Report().Diagnostics[0].Snippet
	if got := s.Code[s.HighlightStartOffset:s.HighlightEndOffset]; got != "local.x" {
		t.Errorf("the snippet highlights %q", got)
	}
}

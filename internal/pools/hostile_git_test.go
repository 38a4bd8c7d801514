package pools

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// hostileTrees are repositories that cost a careless reader its time, its memory
// or its secrets. What is refused says why; empty is a commit that does no harm
// and is taken.
var hostileTrees = map[string]struct {
	below func(*testRepo) []object.TreeEntry // of folder pools, beside a good file
	want  string
}{
	"bomb":             {text("bomb.hcl", hostile["doubling text"].src), "bomb.hcl:"},
	"deep bomb":        {text("bomb.hcl", hostile["parentheses"].src), "Nested too deeply"},
	"recursive locals": {text("locals.hcl", "locals {\n  a = local.b\n  b = local.a\n}\n"), "locals.hcl:3,7: Locals in a circle"},
	"100 MB pool file": {hugeFile, "Repository "}, // too large, or refused for what the server's pack holds
	"20 MB of folder":  {hugeTree, "Repository too large"},
	"10,000 files":     {manyFiles, "Too many files"},
	"symbolic links":   {links, ""},
	"submodule":        {submodule, ""},
	"UTF-16":           {text("wide.hcl", wide("locals {\n  a = 1\n}\n")), "wide.hcl:1,1: "},
	"byte order mark":  {text("mark.hcl", "\ufefflocals {\n  a = 1\n}\n"), ""},
	"Latin-1":          {text("latin.hcl", "locals {\n  a = \"caf\xe9\"\n}\n"), "latin.hcl:2,"},
	"null bytes":       {text("null.hcl", "locals {\n  a = \"\x00\"\n}\n"), ""},
	"name of no text":  {text("\xff\xfe.hcl", "locals {}\n"), "Unsafe file name"},
	"name with escape": {text("a\x1b[2J.hcl", "locals {}\n"), "Unsafe file name"},
	"name that climbs": {text("../../etc/x.hcl", "locals {}\n"), ""},
}

// text is one file, its name as it is.
func text(name, content string) func(*testRepo) []object.TreeEntry {
	return func(r *testRepo) []object.TreeEntry {
		return []object.TreeEntry{{Name: name, Mode: filemode.Regular, Hash: r.blob(content)}}
	}
}

// huge stores a large object with git itself, which is quick at it.
func (r *testRepo) huge(kind string, content io.Reader) plumbing.Hash {
	r.Helper()
	cmd := exec.Command("git", "-c", "core.compression=1", "--git-dir", r.dir, "hash-object", "-t", kind, "-w", "--literally", "--stdin")
	cmd.Stdin = content
	out, err := cmd.Output()
	r.must(err)
	return plumbing.NewHash(strings.TrimSpace(string(out)))
}

func hugeFile(r *testRepo) []object.TreeEntry {
	content := strings.NewReader(strings.Repeat("# of no use at all\n", 100_000_000/19))
	return []object.TreeEntry{{Name: "huge.hcl", Mode: filemode.Regular, Hash: r.huge("blob", content)}}
}

// hugeTree is a folder with 250,000 files of one name: a server's pack may be as
// large.
func hugeTree(r *testRepo) []object.TreeEntry {
	same := r.blob("# the same\n")
	entry := "100644 " + strings.Repeat("x", 72) + ".hcl\x00" + string(same[:])
	content := strings.NewReader(strings.Repeat(entry, 250_000))
	return []object.TreeEntry{{Name: "huge", Mode: filemode.Dir, Hash: r.huge("tree", content)}}
}

func manyFiles(r *testRepo) []object.TreeEntry {
	same := r.blob("# the same\n")
	var list []object.TreeEntry
	for i := range 10_000 {
		list = append(list, object.TreeEntry{Name: fmt.Sprintf("x%05d.hcl", i), Mode: filemode.Regular, Hash: same})
	}
	return list
}

func links(r *testRepo) []object.TreeEntry {
	var list []object.TreeEntry
	for i, to := range []string{"/etc/passwd", "../../../../root", ".", "main.hcl", "x0.hcl", strings.Repeat("a/", 2000)} {
		list = append(list, object.TreeEntry{Name: fmt.Sprintf("x%d.hcl", i), Mode: filemode.Symlink, Hash: r.blob(to)})
	}
	return append(list, object.TreeEntry{Name: "y", Mode: filemode.Symlink, Hash: r.blob("..")})
}

func submodule(*testRepo) []object.TreeEntry {
	return []object.TreeEntry{{Name: "sub.hcl", Mode: filemode.Submodule, Hash: plumbing.NewHash("1123456789012345678901234567890123456789")}}
}

// wide is UTF-16 with its byte order mark.
func wide(s string) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune("\ufeff" + s)) {
		b.WriteByte(byte(u))
		b.WriteByte(byte(u >> 8))
	}
	return b.String()
}

// TestHostileRepositoriesAreBounded measures what each costs over every way to a
// repository, and holds that it ends with a verdict on the commit: not with an
// error that is worth another try, nor with a crash.
func TestHostileRepositoriesAreBounded(t *testing.T) {
	const (
		mostTime   = 30 * time.Second
		mostMemory = 128 << 20
	)
	for name, in := range hostileTrees {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			ways := map[string]GitConfig{"local": {URL: r.dir, Branch: "main", Path: "pools"}, "http": r.overHTTP(), "ssh": r.overSSH()}
			entries := append(in.below(r), object.TreeEntry{Name: "main.hcl", Mode: filemode.Regular, Hash: r.blob(minimal("3")["pools/main.hcl"])})
			tip := r.commit("main", r.tree(object.TreeEntry{Name: "pools", Mode: filemode.Dir, Hash: r.rawTree(entries)}))
			for way, c := range ways {
				start := time.Now()
				var set Set
				var err error
				peak := peakMemory(func() { set, err = Git(c).Load(t.Context(), Known{}) })
				took := time.Since(start)
				t.Logf("%s: %s, %d MiB: %.200v", way, took.Round(time.Millisecond), peak>>20, err)
				if took > mostTime || peak > mostMemory {
					t.Errorf("%s: took %s and held %d MiB, want at most %s and %d", way, took, peak>>20, mostTime, mostMemory>>20)
				}
				var invalid *Invalid
				switch {
				case err == nil && maySay(in.want, "") && set.Desired.Pools[0].Max == 3:
				case errors.As(err, &invalid) && invalid.Revision == tip.String() && in.want != "" && maySay(in.want, err.Error()):
				default:
					t.Errorf("%s: got %.300v, want Invalid of %s with %q", way, err, tip, in.want)
				}
			}
		})
	}
}

// maySay reports whether text has one of the alternatives of want; the empty
// one is for the empty text alone.
func maySay(want, text string) bool {
	for part := range strings.SplitSeq(want, "|") {
		if part == "" && text == "" || part != "" && strings.Contains(text, part) {
			return true
		}
	}
	return false
}

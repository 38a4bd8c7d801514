package pools

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

const plainCommit = "tree 0123456789012345678901234567890123456789\nparent 1123456789012345678901234567890123456789\n" +
	"author a <a@example.com> 1700000000 +0000\ncommitter c <c@example.com> 1700000000 +0100\n"

// FuzzCommit holds the reading of commits to three things: whatever is signed
// and the signature make up the whole commit again, tree and parents are those
// that go-git finds, and nothing verifies that nobody signed.
func FuzzCommit(f *testing.F) {
	f.Add([]byte(plainCommit + "\nmessage\n"))
	f.Add([]byte(plainCommit + "gpgsig -----BEGIN SSH SIGNATURE-----\n AAAA\n -----END SSH SIGNATURE-----\n\nmessage\n"))
	f.Add([]byte(plainCommit + "encoding latin1\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n AAAA\n -----END PGP SIGNATURE-----\nextra x\n y\n\n"))
	f.Add([]byte(plainCommit + "gpgsig a\ngpgsig b\n\n"))
	f.Add([]byte("tree 0123456789012345678901234567890123456789\n\nparent x"))
	keys := &trust{}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseCommit(text)
		if err != nil {
			return
		}
		if _, err := keys.judge(c, time.Unix(1_800_000_000, 0)); err == nil {
			t.Fatal("a commit verifies without any key")
		}
		if len(c.signature) == 0 && !bytes.Equal(c.payload, text) {
			t.Fatalf("an unsigned commit signs %q", c.payload)
		}
		if n := len(text) - len(c.payload); n < 0 || len(c.signature) > 0 && n < len(c.signature) {
			t.Fatalf("%d bytes of %d are signed, with a signature of %d", len(c.payload), len(text), len(c.signature))
		}
		obj := &plumbing.MemoryObject{}
		obj.SetType(plumbing.CommitObject)
		if _, err := obj.Write(text); err != nil {
			t.Fatal(err)
		}
		var other object.Commit
		if other.Decode(obj) != nil {
			return
		}
		if other.TreeHash != c.tree || len(other.ParentHashes) != len(c.parents) {
			t.Fatalf("tree %s and %d parents, go-git finds %s and %d", c.tree, len(c.parents), other.TreeHash, len(other.ParentHashes))
		}
	})
}

// FuzzSigners reads what an operator may write by mistake.
func FuzzSigners(f *testing.F) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIHgqSsxOvWVTWZWDzvgUYsIYnr3FDRmnUU1Ci5LFoNp"
	for _, line := range []string{
		"jane " + key, `"jane doe" namespaces="git",valid-after="20200101Z" ` + key, "# nothing", "jane",
		`jane valid-before="209901010000" ` + key, "jane cert-authority " + key, "*@acme.example " + key + " comment",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		signers, err := parseSigners([]byte(text))
		if err != nil && signers != nil {
			t.Fatal("signers beside an error")
		}
		for _, s := range signers {
			if s.key == nil || s.who == "" {
				t.Fatalf("signer %+v has no key or name", s)
			}
			_ = s.allows(time.Unix(1_700_000_000, 0))
		}
	})
}

// FuzzFormat holds that formatting is done after one time, and changes spaces
// alone.
func FuzzFormat(f *testing.F) {
	f.Add([]byte("locals{\nx=1}\n"))
	f.Add([]byte("pool \"a\" {\n  labels=[ \"x\",\"y\" ]# c\n}"))
	f.Add([]byte("a = <<EOT\n x\nEOT\n"))
	f.Add([]byte(strings.Repeat("(", 200)))
	f.Fuzz(func(t *testing.T, src []byte) {
		out, diags := Format("a.hcl", src)
		if diags.HasErrors() {
			if !bytes.Equal(out, src) {
				t.Fatal("a file that cannot be read was changed")
			}
			return
		}
		again, diags := Format("a.hcl", out)
		if diags.HasErrors() {
			t.Fatalf("what was formatted cannot be read: %s\n%q", diags.Error(), out)
		}
		if !bytes.Equal(again, out) {
			t.Fatalf("formatted again, it differs:\n%q\n%q", out, again)
		}
	})
}

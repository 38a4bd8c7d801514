package pct

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

func pemEncode(b *pem.Block) []byte { return pem.EncodeToMemory(b) }

// TestContainerCannotWriteOutside unpacks what a hostile container may send.
func TestContainerCannotWriteOutside(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	tests := map[string][]tar.Header{
		"dots":                {{Name: "../victim", Size: 4, Typeflag: tar.TypeReg}},
		"an absolute path":    {{Name: victim, Size: 4, Typeflag: tar.TypeReg}},
		"a link to outside":   {{Name: "l", Linkname: outside, Typeflag: tar.TypeSymlink}, {Name: "l/victim", Size: 4, Typeflag: tar.TypeReg}},
		"a link to a file":    {{Name: "l", Linkname: victim, Typeflag: tar.TypeSymlink}, {Name: "l", Size: 4, Typeflag: tar.TypeReg}},
		"a hard link outside": {{Name: "l", Linkname: "../" + filepath.Base(outside) + "/victim", Typeflag: tar.TypeLink}, {Name: "l", Size: 4, Typeflag: tar.TypeReg}},
		"a directory of dots": {{Name: "../../x/", Typeflag: tar.TypeDir}},
	}
	for name, headers := range tests {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(victim, []byte("whole"), 0o600); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, h := range headers {
				h.Mode = 0o644
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
				if h.Size > 0 {
					_, _ = w.Write([]byte("evil"))
				}
			}
			_ = w.Close()
			_ = unpack(&b, filepath.Join(t.TempDir(), "dst"), nil) // an error, or nothing outside
			if got, _ := os.ReadFile(victim); string(got) != "whole" {
				t.Errorf("the file outside holds %q", got)
			}
		})
	}
}

func FuzzUnpack(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: "a", Size: 1, Mode: 0o600, Typeflag: tar.TypeReg})
	_, _ = w.Write([]byte("x"))
	_ = w.Close()
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		_ = unpack(bytes.NewReader(data), filepath.Join(parent, "dst"), nil)
		entries, err := os.ReadDir(parent)
		if err != nil || len(entries) > 1 {
			t.Errorf("beside the directory there is %v (%v)", entries, err)
		}
	})
}

package pools

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

func TestEncodedSetsAreDecodedAlike(t *testing.T) {
	want := Set{Revision: "abc", Files: exampleFiles(t)}
	want.Desired, want.Warnings = Parse(want.Files)
	got, err := Decode(Encode(want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Desired, got.Desired); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got.Revision != want.Revision || !cmp.Equal(got.Files, want.Files) {
		t.Errorf("got revision %q and files %v", got.Revision, sortedKeys(got.Files))
	}
}

func TestTheLargestSetCanBeStored(t *testing.T) {
	files := map[string][]byte{}
	for range maxFiles {
		name := strings.Repeat("\"", maxPath-8) + string(rune('a'+len(files)%26)) + string(rune('a'+len(files)/26)) + ".hcl"
		files[name] = []byte(strings.Repeat("#", maxTotal/maxFiles))
	}
	if data := Encode(Set{Files: files}); len(data) > maxStored {
		t.Errorf("%d bytes are encoded, and %d can be decoded", len(data), maxStored)
	}
}

func TestDamagedStoresAreErrors(t *testing.T) {
	bomb, _ := json.Marshal(stored{Format: storedFormat, Revision: "r", Files: map[string][]byte{"a.hcl": []byte(strings.Repeat("(", 60_000))}})
	for name, data := range map[string][]byte{
		"empty":     nil,
		"garbage":   []byte("\x00\xff"),
		"cut":       Encode(Set{Files: exampleFiles(t)})[:100],
		"format":    []byte(`{"format":2,"files":{}}`),
		"no files":  []byte(`{"format":1}`),
		"base64":    []byte(`{"format":1,"files":{"a.hcl":"%%"}}`),
		"too large": []byte(strings.Repeat(" ", maxStored+1)),
		"refused":   bomb,
	} {
		set, err := Decode(data)
		if !errors.Is(err, fleet.ErrInvalid) || set.Files != nil {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
}

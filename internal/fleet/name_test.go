package fleet

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var nameKey = []byte("0123456789abcdef")

func TestNameFitsAHostName(t *testing.T) {
	pool := strings.Repeat("p", MaxPoolName)
	if got := len(NewName(pool, [4]byte{}, nameKey)); got != 63 {
		t.Errorf("the longest name has %d bytes, want 63", got)
	}
	name := NewName("small", [4]byte{1, 2, 3, 4}, nameKey)
	if !strings.HasPrefix(name, "dayfly-small-01020304") || len(name) != len("dayfly-small-")+16 {
		t.Errorf("NewName = %s", name)
	}
}

func TestNameTellsItsPool(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := rapid.StringMatching(`[a-z0-9]([a-z0-9\-]{0,20}[a-z0-9])?`).Draw(t, "pool")
		random := [4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "random"))
		name := NewName(pool, random, nameKey)
		if got, ok := OwnedPool(name, nameKey); !ok || got != pool {
			t.Fatalf("OwnedPool(%s) = %q, %t, want %q", name, got, ok, pool)
		}
		if _, ok := OwnedPool(name, []byte("another dayfly's")); ok {
			t.Fatalf("%s is taken for that of another dayfly", name)
		}
		at := rapid.IntRange(0, len(name)-1).Draw(t, "changed")
		forged := name[:at] + string(name[at]^1) + name[at+1:]
		if pool, ok := OwnedPool(forged, nameKey); ok {
			t.Fatalf("forged name %s is taken for one of pool %q", forged, pool)
		}
	})
}

func FuzzOwnedPool(f *testing.F) {
	f.Add(NewName("a", [4]byte{}, nameKey))
	f.Add("dayfly-")
	f.Add("dayfly--0123456789abcdef")
	f.Add("")
	f.Fuzz(func(t *testing.T, name string) {
		if pool, ok := OwnedPool(name, nameKey); ok && (pool == "" || !strings.HasPrefix(name, "dayfly-"+pool+"-")) {
			t.Errorf("OwnedPool(%q) = %q", name, pool)
		}
	})
}

package fleet

import (
	"testing"

	"pgregory.net/rapid"
)

func TestNewerComparesNumbers(t *testing.T) {
	for _, tt := range []struct{ newer, older string }{
		{"2", "1"}, {"10", "9"}, {"2.10", "2.9"}, {"2.335.1-2", "2.335.1-1"}, {"2.335.1-10", "2.335.1-9"}, {"2.336.0-1", "2.335.1-9"},
		{"2.335.1-1", "2.335.1"}, {"2.335.1", "2.335"}, {"1", ""}, {"b", "a"}, {"1.b", "1.a"}, {"20260301", "20251231"},
		{"99999999999999999999999", "99999999999999999999998"}, {"1.0a", "1.0"},
	} {
		if !Newer(tt.newer, tt.older) {
			t.Errorf("%q is not newer than %q", tt.newer, tt.older)
		}
		if Newer(tt.older, tt.newer) {
			t.Errorf("%q is newer than %q", tt.older, tt.newer)
		}
	}
	for _, tt := range [][2]string{{"", ""}, {"1.2", "1.2"}, {"1.02", "1.2"}} {
		if Newer(tt[0], tt[1]) || Newer(tt[1], tt[0]) {
			t.Errorf("one of %q is newer than the other", tt)
		}
	}
}

func TestNewerIsAnOrder(t *testing.T) {
	version := rapid.StringMatching(`[0-9a.\-]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := version.Draw(t, "a"), version.Draw(t, "b"), version.Draw(t, "c")
		if Newer(a, a) || Newer(a, b) && Newer(b, a) {
			t.Fatalf("%q and %q are newer than each other", a, b)
		}
		if Newer(a, b) && Newer(b, c) && !Newer(a, c) {
			t.Fatalf("%q > %q > %q, but not %q > %q", a, b, c, a, c)
		}
	})
}

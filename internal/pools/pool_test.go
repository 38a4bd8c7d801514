package pools

import (
	"strings"
	"testing"
)

func TestLineIsAShortTextWithoutControls(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "Ubuntu für alle – 24.04": true, strings.Repeat("é", 500): true, strings.Repeat("é", 501): false,
		"two\nlines": false, "\x1b[31mred": false, "zero\u200bwidth": false, "\u202ereversed": false,
	} {
		if got := line(500).MatchString(text); got != want {
			t.Errorf("%.20q: got %t, want %t", text, got, want)
		}
	}
}

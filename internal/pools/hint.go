package pools

import (
	"maps"
	"slices"

	"github.com/agext/levenshtein"
)

// nearest returns `; did you mean "name"?` for the known name that is closest
// to given, or nothing when none is close.
func nearest[V any](given string, known map[string]V) string {
	best, bestDistance := "", min(3, 1+len(given)/3) // at most two edits, as HCL's own hints; fewer in short names
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if len(name) > len(given)+2 || len(name) < len(given)-2 {
			continue
		}
		if d := levenshtein.Distance(given, name, nil); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return ` Did you mean "` + best + `"?`
}

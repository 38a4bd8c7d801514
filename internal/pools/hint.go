package pools

import (
	"maps"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
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

// stranger is a name that people know from elsewhere, and what it is here.
type stranger struct {
	why string
	use []string // "block.attribute", or the name of a block
}

// strangers are names that no spelling would lead to the right one, by the kind
// of block they are in; "" is a file.
var strangers = map[string]map[string]stranger{
	"": {
		"variable": {"All that counts is in the files: no value comes from outside.", []string{"locals"}},
	},
	"scale": {
		"min":      {"Containers wait for jobs without a registration, booted or stopped.", []string{"scale.warm", "scale.spare"}},
		"min_idle": {"Containers wait for jobs without a registration, booted or stopped.", []string{"scale.warm", "scale.spare"}},
		"burst":    {"How much is made at once is bounded for all pools together, and by the copies of a template.", []string{"limits.node_tasks", "limits.storage_tasks", "template.replicas"}},
	},
	"github": {
		"repos":        {"A runner registers with one repository, or with an organisation, of which rules can allow some repositories: make a pool for each, or allow several.", []string{"github.repo", "access.repos"}},
		"enterprise":   {"GitHub lets no App register runners with an enterprise: make a pool for each organisation.", []string{"github.org"}},
		"repository":   {"", []string{"github.repo"}},
		"organization": {"", []string{"github.org"}},
		"runner_group": {"", []string{"github.group"}},
	},
	"timeouts": {
		"boot":     {"The time from a container's start until its runner listens has another name.", []string{"timeouts.register"}},
		"shutdown": {"A guest powers itself off after its job and is destroyed, at the latest when the time of the job is over.", []string{"timeouts.job"}},
	},
}

// advice is what a stranger in a block of a kind is answered.
func (s stranger) advice(kind string) string {
	var ways []string
	for _, use := range s.use {
		block, name, found := strings.Cut(use, ".")
		switch {
		case !found:
			ways = append(ways, "a "+block+" block")
		case block == kind:
			ways = append(ways, name)
		default:
			ways = append(ways, name+" of "+block)
		}
	}
	return strings.TrimPrefix(s.why+" Use "+strings.Join(ways, " or ")+".", " ")
}

// redirect reports the strangers in a block of a kind and takes them out of it,
// so that they are not reported as unknown as well.
func redirect(kind string, body *hclsyntax.Body) hcl.Diagnostics {
	var diags hcl.Diagnostics
	known := func(summary, name string, at hcl.Range) bool {
		s, ok := strangers[kind][name]
		if ok {
			diags = append(diags, problem(&at, summary, "%q is not expected here. %s", name, s.advice(kind)))
		}
		return ok
	}
	for _, attr := range sortedAttributes(body) {
		if known("Unsupported argument", attr.Name, attr.NameRange) {
			delete(body.Attributes, attr.Name)
		}
	}
	body.Blocks = slices.DeleteFunc(body.Blocks, func(b *hclsyntax.Block) bool {
		return known("Unsupported block type", b.Type, b.TypeRange)
	})
	return diags
}

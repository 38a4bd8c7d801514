package pools

import "github.com/hashicorp/hcl/v2/hclwrite"

// Format writes a pool file in the usual form: only spaces change. A file that
// cannot be parsed is left alone, and what is wrong with it reported.
func Format(name string, src []byte) ([]byte, Diagnostics) {
	files := map[string][]byte{name: src}
	diags := guard(files)
	if !diags.HasErrors() {
		_, diags = syntax(files)
	}
	if diags.HasErrors() {
		return src, newDiagnostics(diags, files)
	}
	return hclwrite.Format(src), Diagnostics{}
}

// Package examples holds the pool files of this directory, so that `dayfly
// demo` runs on the very files that people read and copy.
package examples

import "embed"

// FS is the pool files, *.hcl.
//
//go:embed *.hcl
var FS embed.FS

// Command reference writes the documentation of pool files, for go generate.
package main

import (
	"fmt"
	"os"

	"github.com/dayfly-ci/dayfly/internal/pools"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: reference FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], []byte(pools.Reference()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// Command webdocs writes the plugin's pages for Packer's registry of
// integrations into .web-docs, from plugin/docs and the comments of the
// configuration's fields. Run it after a change of either; a test compares.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	root := flag.String("root", ".", "`FOLDER` of the repository")
	out := flag.String("o", ".web-docs", "`FOLDER` to write to; what is in it is removed")
	flag.Parse()
	if err := write(*root, *out); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

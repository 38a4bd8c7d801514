// Command release makes the archives of packer-plugin-dayfly that "packer
// init" installs from: attach every file it writes to the release of the tag
// vX.Y.Z of the repository packer-plugin-dayfly.
//
// The names are packer's (its plugin-getter/github): an archive holds exactly
// one file, whose name is the archive's without ".zip"; the sums are listed in
// one file of the tag; and a binary whose "describe" tells another version
// than the tag is refused. The same commit and the same Go give the same
// archives, bit for bit.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	version := flag.String("version", "", "`vX.Y.Z` of the release, its tag")
	dir := flag.String("o", "build/release", "`FOLDER` to write to; what is in it is removed")
	targets := flag.String("platforms", strings.Join(platforms, ","), "`LIST` of OS/ARCHITECTURE")
	flag.Parse()
	r := release{version: *version, dir: *dir, platforms: strings.Split(*targets, ","), build: alike}
	if err := r.make(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

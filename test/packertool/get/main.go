// Command get prints the path of a packer, and builds one first when none is
// installed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/dayfly-ci/dayfly/test/packertool"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	path, err := packertool.Find(ctx)
	if errors.Is(err, packertool.ErrNone) {
		fmt.Fprintln(os.Stderr, "building packer once, as a tool; this takes a few minutes")
		path, err = packertool.Build(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}

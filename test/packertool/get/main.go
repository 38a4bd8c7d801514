// Command get prints the path of a packer, or with the argument ansible that of
// the plugin for Ansible, and builds one first when none is there.
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
	path, err := get(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}

func get(ctx context.Context, args []string) (string, error) {
	if len(args) > 0 {
		if len(args) > 1 || args[0] != "ansible" {
			return "", fmt.Errorf("arguments %q: want ansible, or none", args)
		}
		return packertool.BuildAnsible(ctx)
	}
	path, err := packertool.Find(ctx)
	if errors.Is(err, packertool.ErrNone) {
		fmt.Fprintln(os.Stderr, "building packer once, as a tool; this takes a few minutes")
		path, err = packertool.Build(ctx)
	}
	return path, err
}

package pct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"
)

// patience is how long the output of a command is waited for after its end: a
// child that it left behind may hold it open for ever, and a busy machine is
// slow to copy it.
const patience = 3 * time.Second

// Local is the node that the build runs on.
type Local struct{}

// Run implements Shell.
func (Local) Run(ctx context.Context, c Command) (int, error) {
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = c.Stdout, c.Stderr, patience
	var in io.WriteCloser
	if c.Stdin != nil {
		var err error
		if in, err = cmd.StdinPipe(); err != nil {
			return 0, err
		}
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	if in != nil {
		feed(in, c.Stdin)
	}
	return wait(ctx, cmd)
}

func wait(ctx context.Context, cmd *exec.Cmd) (int, error) {
	err := cmd.Wait()
	exit, failed := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case failed && exit.ExitCode() < 0:
		return 0, fmt.Errorf("%s: %w", cmd.Path, err) // killed
	case failed:
		return exit.ExitCode(), nil
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// Close implements Shell.
func (Local) Close() error { return nil }

// Package pct is the communicator that goes through the node: every command
// runs by lxc-attach, so that the container needs neither an SSH server nor a
// network. The node is this machine, or another one over SSH.
//
// It leaves nothing on the node, keeps exit statuses exact, and does not wait
// for the end of an input that the command does not read.
package pct

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Shell runs commands as root on a node. Its methods may be used at once.
type Shell interface {
	// Run runs a command and returns its exit status. An error says that
	// there is none: the connection was lost, or ctx ended, and with it the
	// command.
	Run(ctx context.Context, cmd Command) (status int, err error)
	io.Closer
}

// Command is a program to run, with its arguments as they are: no shell is
// between.
type Command struct {
	Argv   []string
	Stdin  io.Reader // nil: empty
	Stdout io.Writer // nil: thrown away
	Stderr io.Writer
}

// ErrLost is the loss of the connection to the node.
var ErrLost = errors.New("connection to the node lost")

// Output runs a command and returns what it prints.
func Output(ctx context.Context, s Shell, argv ...string) (string, error) {
	return Pipe(ctx, s, nil, argv...)
}

// Pipe runs a command with an input and returns what it prints.
func Pipe(ctx context.Context, s Shell, in io.Reader, argv ...string) (string, error) {
	var out, complaint bytes.Buffer
	status, err := s.Run(ctx, Command{Argv: argv, Stdin: in, Stdout: &out, Stderr: &complaint})
	switch {
	case err != nil:
		return "", fmt.Errorf("run %s: %w", argv[0], err)
	case status != 0:
		return "", fmt.Errorf("run %s: exit status %d: %s", argv[0], status, lastLines(complaint.String()))
	}
	return out.String(), nil
}

// lastLines is the end of a complaint, in one line.
func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// quote makes one command line of arguments, for the shell that sshd gives it
// to.
func quote(argv []string) string {
	parts := make([]string, len(argv))
	for i, a := range argv {
		parts[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(parts, " ")
}

// feed copies an input to a command until either ends. The command may end
// first: nothing waits for the input, which could be a terminal.
func feed(to io.WriteCloser, from io.Reader) {
	go func() {
		_, _ = io.Copy(to, from) // a command that reads no more breaks the pipe
		_ = to.Close()
	}()
}

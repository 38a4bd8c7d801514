package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dayfly-ci/dayfly/internal/daemon"
)

// The exit codes.
const (
	exitOK     = 0
	exitError  = 1
	exitNotice = 2 // wrong usage; or, without a message, something to do or wrong
)

// errNotice makes the program exit with 2 and say no more: the output did.
var errNotice = errors.New("something to do")

// hinted is an error with what a person can do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// usageError is an error in how the program was called.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// misuse makes a usageError that names the command's help.
func misuse(cmd *cobra.Command, err error) error {
	return hinted{usageError{err}, fmt.Sprintf("run %q", cmd.CommandPath()+" --help")}
}

// takes makes a check that there is one argument for each name.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return misuse(cmd, fmt.Errorf("missing %s", names[len(args)]))
		case len(args) > len(names):
			return misuse(cmd, fmt.Errorf("unexpected argument %q", args[len(names)]))
		}
		return nil
	}
}

// takesAtMost makes a check that there are no more arguments than names.
func takesAtMost(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return misuse(cmd, fmt.Errorf("unexpected argument %q", args[len(names)]))
		}
		return nil
	}
}

// report prints err for people and returns the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errNotice) {
		return exitNotice
	}
	style := styleOf(w)
	text := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", ": ")
	fmt.Fprintf(w, "dayfly: %s %s\n", style.red("error:"), text)
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(w, "%s %s\n", style.bold("hint:"), hint)
	}
	if errors.As(err, new(usageError)) {
		return exitNotice
	}
	return exitError
}

func hintOf(err error) string {
	var h hinted
	switch {
	case errors.As(err, &h):
		return h.hint
	case errors.Is(err, fs.ErrPermission) && errors.Is(err, daemon.ErrNoDaemon):
		return "the admin socket is for root and the group dayfly"
	case errors.Is(err, daemon.ErrNoDaemon):
		return `start it with "systemctl start dayfly" or "dayfly run", or name its socket with --socket`
	}
	return ""
}

// writeJSON prints one value, indented.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

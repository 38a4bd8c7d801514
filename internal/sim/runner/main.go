// Program runner stands for GitHub's runner in tests and demos: bin/Runner.Listener
// and bin/Runner.Worker of a tarball that has the shape of the real one. It
// takes its JIT config like the real one, speaks to the simulated GitHub's
// broker, runs the steps of one job in bash, and leaves the same words, files
// and exit codes (actions/runner: Constants.cs, Runner.cs, JobExtension.cs).
// It knows expressions, actions and containers of a workflow not at all.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Exit codes (Constants.cs, ReturnCode).
const (
	success            = 0
	terminated         = 1
	retryable          = 2
	sessionConflict    = 5
	versionDeprecated  = 7
	jobResultOffset    = 100 // of the worker, and of the listener when it is asked to
	jitConfigVariable  = "ACTIONS_RUNNER_INPUT_JITCONFIG"
	deprecatedVariable = "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE"
	resultVariable     = "ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED"
)

func main() {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(terminated)
	}
	root := filepath.Dir(filepath.Dir(self))
	if filepath.Base(os.Args[0]) == "Runner.Worker" {
		os.Exit(work(root))
	}
	os.Exit(listen(root, os.Args[1:]))
}

// version is what the tarball says it is.
func version(root string) string {
	text, err := os.ReadFile(filepath.Join(root, "bin", "version"))
	if err != nil {
		return "0.0.0"
	}
	return strings.TrimSpace(string(text))
}

// loadEnv sets what the file .env in the runner's root says (Program.cs,
// LoadAndSetEnv). What is set already stays.
func loadEnv(root string) error {
	text, err := os.ReadFile(filepath.Join(root, ".env"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		k, v, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "=")
		if _, there := os.LookupEnv(k); ok && k != "" && !there {
			if err := os.Setenv(k, v); err != nil {
				return err
			}
		}
	}
	return nil
}

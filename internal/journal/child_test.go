package journal_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/journal"
)

// children are what the test binary does instead of testing when it is started
// again with role in its environment.
var children = map[string]func(path string) error{
	"write":      writeForever,
	"hold":       hold,
	"fill limit": fillUnderLimit,
	"fill disk":  fillSmallDisk,
}

const role, where = "DAYFLY_JOURNAL_TEST", "DAYFLY_JOURNAL_PATH"

func TestMain(m *testing.M) {
	child, ok := children[os.Getenv(role)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := child(os.Getenv(where)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// spawn prepares this binary in a role. What is still running when the test
// ends is killed.
func spawn(t *testing.T, name, path string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), role+"="+name, where+"="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

// hold keeps the journal open until its input ends.
func hold(path string) error {
	j, err := journal.Open(context.Background(), path, journal.Options{})
	if err != nil {
		return err
	}
	fmt.Println("open")
	_, _ = os.Stdin.Read(make([]byte, 1))
	return j.Close()
}

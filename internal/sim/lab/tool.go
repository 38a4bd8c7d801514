//go:build linux

package lab

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ToolPath is where the sandbox has its pct(1): beside the machine's own
// programs, of which it hides none.
const ToolPath = runDir + "/pct"

// toolScript hands its arguments over and ends as it is told to. A line is
// shorter than what a pipe takes in one piece.
const toolScript = `#!/bin/sh
reply=$0.reply.$$
mkfifo -m 600 "$reply" || exit 255
trap 'rm -f "$reply"' EXIT
printf '%s %s\n' "$reply" "$*" >"$0.request"
{ read -r code; cat >&2; exit "$code"; } <"$reply"
`

// Tool puts a program at ToolPath that does what run does, for whoever is root
// in the sandbox. It stays until the sandbox ends.
func Tool(run func(args ...string) (code int, said string)) error {
	request := ToolPath + ".request"
	if err := unix.Mkfifo(request, 0o600); err != nil {
		return &os.PathError{Op: "make pipe", Path: request, Err: err}
	}
	f, err := os.OpenFile(request, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := os.WriteFile(ToolPath, []byte(toolScript), 0o755); err != nil {
		return err
	}
	go func() {
		for lines := bufio.NewScanner(f); lines.Scan(); {
			words := strings.Fields(lines.Text())
			if len(words) == 0 || filepath.Dir(words[0]) != runDir {
				continue
			}
			code, said := run(words[1:]...)
			if reply, err := os.OpenFile(words[0], os.O_WRONLY, 0); err == nil {
				_, _ = fmt.Fprintf(reply, "%d\n%s\n", code, said)
				_ = reply.Close()
			}
		}
	}()
	return nil
}

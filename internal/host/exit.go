package host

import (
	"encoding/json"
	"fmt"
	"strings"
)

// exit says in words how the runner ended, from what the guest left: systemd's
// SERVICE_RESULT, EXIT_CODE and EXIT_STATUS (systemd.exec(5)). A job may have
// written it, so it is bounded and only quoted.
func (e *Evidence) exit() string {
	for _, f := range e.Files {
		if !strings.HasSuffix(f.Path, "/exit.json") {
			continue
		}
		var said struct{ Result, Code, Status string }
		if json.Unmarshal(f.Data, &said) != nil {
			return "unreadable: the file exit.json is not what the guest writes"
		}
		text := fmt.Sprintf("%s %s", said.Code, said.Status)
		if meaning := exitCodes[said.Status]; said.Code == "exited" && meaning != "" {
			text += ": " + meaning
		}
		if said.Result != "success" && said.Result != "exit-code" {
			text += " (" + said.Result + ")"
		}
		return printable(strings.TrimSpace(text))
	}
	return ""
}

// exitCodes are the runner's own (actions/runner, Constants.cs, ReturnCode), and
// that of the guest's program begin.
var exitCodes = map[string]string{
	"0": "its work was over",
	"1": "it could not run: bad or deleted registration, or a runner that GitHub takes no longer",
	"2": "it failed in a way that another try may mend",
	"5": "another runner has its session: the JIT config was used twice",
	"7": "GitHub serves this runner version no longer: bake a new template",

	"17": "its container was used up: it had run already, or could not take note of it",
}

// printable is at most 200 characters of s, without what a terminal would obey.
func printable(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return clean[:min(len(clean), 200)]
}

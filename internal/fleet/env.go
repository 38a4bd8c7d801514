package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Env is what the steps of a pool's jobs find in their environment: proxies,
// mirrors, places. It comes with the JIT config, so that a container which waits
// has none yet. It is no place for secrets.
type Env map[string]string

// Bounds of an Env, well below what Proxmox VE and the kernel take.
const (
	MaxVariables = 64
	maxName      = 64      // characters of a name
	maxValue     = 2 << 10 // of a value
	maxEnv       = 8 << 10 // of all names and values
)

// What the runner, the guest, systemd and shells give a meaning of their own. A
// pool that set one of these would break the runner before a job's first step,
// or have no effect at all.
var (
	ownPrefixes = []string{"ACTIONS_", "BASH_", "CORECLR_", "DAYFLY_", "GITHUB_", "INPUT_", "LD_", "RUNNER_", "SYSTEMD_"}
	ownNames    = []string{
		"BASHOPTS", "CDPATH", "CI", "COLUMNS", "CREDENTIALS_DIRECTORY", "DOTNET_STARTUP_HOOKS", "ENV", "EUID", "EXIT_CODE", "EXIT_STATUS",
		"GCONV_PATH", "GLOBIGNORE", "GROUPS", "HOME", "HOSTNAME", "IFS", "INVOCATION_ID", "JOURNAL_STREAM", "LINENO", "LISTEN_FDNAMES",
		"LISTEN_FDS", "LISTEN_PID", "LOGNAME", "MAINPID", "NOTIFY_SOCKET", "OLDPWD", "OPTARG", "OPTIND", "PATH", "POSIXLY_CORRECT",
		"PPID", "PS1", "PS2", "PS4", "PWD", "RANDOM", "REPLY", "RUNTIME_DIRECTORY", "SECONDS", "SERVICE_RESULT", "SHELL", "SHELLOPTS",
		"SHLVL", "TERM", "UID", "USER", "WATCHDOG_PID", "WATCHDOG_USEC", "XDG_RUNTIME_DIR", "_", "container",
	}
)

// Misnamed says why no variable can have a name; empty: one can.
func (Env) Misnamed(name string) string {
	own := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	switch {
	case name == "" || len(name) > maxName || strings.Trim(name, letters+digits+"_") != "" || strings.ContainsAny(name[:1], digits):
		return fmt.Sprintf("a name is at most %d letters, digits and underscores, and does not begin with a digit", maxName)
	case slices.ContainsFunc(ownPrefixes, own), slices.Contains(ownNames, name):
		return "the runner, the guest or a shell gives it a meaning of its own"
	}
	return ""
}

const (
	letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	digits  = "0123456789"
)

// Unfit says why no variable can have a value; empty: one can. A value is
// written in double quotes, in which systemd (systemd.exec(5), EnvironmentFile)
// and whoever just takes one pair of them off read the same: none of what a
// backslash would have to stand before is let in. Proxmox VE drops spaces at
// the end of an option's line.
func (Env) Unfit(value string) string {
	strange := func(c rune) bool { return c < ' ' || c > '~' || strings.ContainsRune("\"\\`$", c) }
	switch {
	case value == "" || len(value) > maxValue:
		return fmt.Sprintf("a value has 1 to %d characters", maxValue)
	case strings.ContainsFunc(value, strange):
		return "a value has printable characters of ASCII, but none of \", \\, ` and $"
	case strings.Trim(value, " ") != value:
		return "a value has no space at its begin or end"
	}
	return ""
}

// Check says why an environment cannot be delivered: ErrInvalid.
func (e Env) Check() error {
	for _, name := range slices.Sorted(maps.Keys(e)) {
		if why := e.Misnamed(name); why != "" {
			return fmt.Errorf("variable %.80q: %s: %w", name, why, ErrInvalid)
		}
		if why := e.Unfit(e[name]); why != "" {
			return fmt.Errorf("variable %s: %s: %w", name, why, ErrInvalid)
		}
	}
	if why := e.Crowded(); why != "" {
		return fmt.Errorf("environment: %s: %w", why, ErrInvalid)
	}
	return nil
}

// Crowded says why an environment is too much; empty: it is not.
func (e Env) Crowded() string {
	size := 0
	for name, value := range e {
		size += len(name) + len(value)
	}
	if len(e) > MaxVariables || size > maxEnv {
		return fmt.Sprintf("at most %d variables with %d characters in all are expected, not %d with %d", MaxVariables, maxEnv, len(e), size)
	}
	return ""
}

// Lines are the variables, each as NAME="value", by name.
func (e Env) Lines() []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(e)) {
		lines = append(lines, name+`="`+e[name]+`"`)
	}
	return lines
}

package pve

import (
	"net/http"
	"sort"
	"strconv"
	"strings"
)

// refusal is an answer that is no success. The message's first line is the
// reason phrase.
type refusal struct {
	code    int
	message string
	params  map[string]string // errors by parameter
	plain   bool              // the body is the message, not JSON
	empty   bool              // there is no body
	bare    bool              // the message has no newline at its end
}

func (r *refusal) Error() string { return r.message }

// die is Perl's die in an API method: status 500.
func die(message string) error {
	return &refusal{code: http.StatusInternalServerError, message: message}
}

// denied is a refused permission check; what is empty when Proxmox does not
// say what was missing.
func denied(what string) error {
	m := "Permission check failed"
	if what != "" {
		m += " (" + what + ")"
	}
	return &refusal{code: http.StatusForbidden, message: m}
}

// badParam is one parameter that failed its verification.
func badParam(name, text string) error { return badParams(map[string]string{name: text}) }

func badParams(errs map[string]string) error {
	return &refusal{code: http.StatusBadRequest, message: "Parameter verification failed.", params: errs}
}

// missingConfig is what reading a container's configuration says when it is
// not there.
func missingConfig(node string, vmid int) error {
	return die("Configuration file 'nodes/" + node + "/lxc/" + strconv.Itoa(vmid) + ".conf' does not exist")
}

func vmPath(vmid int) string { return "/vms/" + strconv.Itoa(vmid) }

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

// splitList splits one of Proxmox's lists: comma, semicolon, blank or NUL.
func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool {
		return r == ',' || r == ';' || r == ' ' || r == '\t' || r == '\n' || r == 0
	})
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

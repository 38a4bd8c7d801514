package fleet

import (
	"fmt"
	"slices"
	"strconv"
)

// Kind is what an action does.
type Kind int

// The kinds of actions.
const (
	None       Kind = iota
	Clone           // make a container from a template
	Launch          // mint a JIT config, deliver it, start the container
	Deregister      // delete the registration; refused by GitHub when it is busy
	Destroy         // stop and remove the container
	Smoke           // start the container without a JIT config: a smoke boot
	Boot            // start the container, to wait warm for a JIT config
)

var kindNames = [...]string{"none", "clone", "launch", "deregister", "destroy", "smoke", "boot"}

func (k Kind) String() string { return word(kindNames[:], int(k)) }

// ParseKind reads what String writes.
func ParseKind(s string) (Kind, bool) {
	i := slices.Index(kindNames[:], s)
	return Kind(max(i, 0)), i >= 0
}

// word is the i-th name, or the number itself if it has none.
func word(names []string, i int) string {
	if i < 0 || i >= len(names) {
		return strconv.Itoa(i)
	}
	return names[i]
}

// Action is one thing to do, and why. A clone's Runner is empty: the executor
// names it.
type Action struct {
	Kind     Kind
	Pool     string
	Runner   string
	Template VMID // the replica to clone
	Node     string
	Reason   string
}

func (a Action) String() string {
	what := a.Runner
	if a.Kind == Clone {
		what = fmt.Sprintf("for pool %s from template %d", a.Pool, a.Template)
	}
	where := ""
	if a.Node != "" {
		where = " on " + a.Node
	}
	return fmt.Sprintf("%s %s%s: %s", a.Kind, what, where, a.Reason)
}

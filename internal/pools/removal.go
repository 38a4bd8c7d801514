package pools

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// removalTrailer is the line at the end of a commit's message that allows it
// to take away most of the pools, with their number.
const removalTrailer = "Dayfly-Remove-Pools"

var removalForm = regexp.MustCompile(`(?im)^` + removalTrailer + `:[ \t]*([0-9]{1,5})[ \t]*$`)

// guardRemoval refuses a commit that takes away more than half of the pools in
// force, or all of them, without saying so: that is more often a merge gone
// wrong, or a path that moved, than what somebody meant. A pool under another
// name is a new one.
func (r *repository) guardRemoval(commit rawCommit, known Known, set Set) error {
	why := MassRemoval(known.InForce.Desired, set.Desired)
	if r.inForce(known) == "" || why == "" || allowance(commit.message) == len(removed(known.InForce.Desired, set.Desired)) {
		return nil
	}
	return refused(set.Revision, "Mass removal of pools", "%s", why)
}

// MassRemoval says what a commit must say of itself that takes away most pools;
// empty: it takes away fewer.
func MassRemoval(old, now fleet.Desired) string {
	lost := removed(old, now)
	if len(lost)*2 <= len(old.Pools) {
		return ""
	}
	return fmt.Sprintf("The commit takes away %d of %d pools: %s. If that is meant, end the message of a commit with the line \"%s: %d\".",
		len(lost), len(old.Pools), some(lost), removalTrailer, len(lost))
}

// removed lists the pools of old that now lacks.
func removed(old, now fleet.Desired) []string {
	var lost []string
	for _, p := range old.Pools {
		if !slices.ContainsFunc(now.Pools, func(q fleet.Pool) bool { return q.Name == p.Name }) {
			lost = append(lost, p.Name)
		}
	}
	return lost
}

// allowance is the number in the message's trailer, 0 without one. As with
// git, trailers are in the last paragraph.
func allowance(message string) int {
	message = strings.TrimSpace(strings.ReplaceAll(message, "\r\n", "\n"))
	last := message[strings.LastIndex(message, "\n\n")+1:]
	found := removalForm.FindStringSubmatch(last)
	if found == nil {
		return 0
	}
	n, _ := strconv.Atoi(found[1]) // at most five digits
	return n
}

func some(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + ", …"
}

package proxmox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Remains is a container or template that a build of ours has begun and not
// finished, or one that another build has replaced. None of them is ever used.
type Remains struct {
	Node       string
	VMID       fleet.VMID
	Name       string
	Template   bool
	Lock       string       // empty: none
	Info       TemplateInfo // zero when Unreadable says why
	Unreadable string       // its manifest; the tag alone says that it is ours
}

// Began is when its build began, or, of a template that was replaced, when it
// was built. Zero: nobody knows.
func (r Remains) Began() time.Time {
	if r.Info.State == "replaced" && !r.Info.BuiltAt.IsZero() {
		return r.Info.BuiltAt
	}
	return r.Info.Started
}

// remains are the states of manifests that nothing is used in. A manifest of
// the state "container" is what skip_convert_to_template asked for.
var remains = []string{"building", "smoke", "replaced"}

// Remains lists what builds have left on a node, as far as the token may see
// it, and what builds that still run are making: when they began is all that
// tells them apart. Clones come before what they may be clones of, the order
// to remove them in.
func (b *Builder) Remains(ctx context.Context, node string) ([]Remains, error) {
	guests, err := b.c.guestsOf(ctx, node)
	if err != nil {
		return nil, fmt.Errorf("list containers of node %s: %w", node, err)
	}
	var out []Remains
	for _, g := range guests {
		s, err := b.c.settings(ctx, node, g.id())
		switch {
		case errors.Is(err, fleet.ErrDenied), errors.Is(err, fleet.ErrNotFound):
			continue // gone by now, or not for this token
		case err != nil:
			return nil, fmt.Errorf("configuration of %d: %w", g.id(), err)
		}
		r := Remains{Node: node, VMID: g.id(), Name: string(g.Name), Template: bool(g.Template), Lock: string(g.Lock)}
		info, err := ReadTemplate(s.description())
		switch {
		case err == nil && slices.Contains(remains, info.State):
			r.Info = info
		case err != nil && slices.Contains(splitTags(string(g.Tags)), BuildingTag):
			r.Unreadable = err.Error()
		default:
			continue
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Remains) int {
		return cmp.Or(cmp.Compare(order(a.Template), order(b.Template)), cmp.Compare(b.VMID, a.VMID))
	})
	return out, nil
}

func order(template bool) int {
	if template {
		return 1
	}
	return 0
}

// Remove destroys remains, unless they have become something else since they
// were listed: fleet.ErrInvalid. The other kinds of errors are those of
// Destroy.
func (b *Builder) Remove(ctx context.Context, r Remains) error {
	return b.Destroy(ctx, r.Node, r.VMID, func(description string) bool {
		now, err := ReadTemplate(description)
		return err == nil && now.Build == r.Info.Build && slices.Contains(remains, now.State)
	})
}

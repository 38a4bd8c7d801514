package prune

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// world is what decides over the versions of one family.
type world struct {
	family string
	built  []proxmox.Built
	clones []proxmox.Clone
	pools  []fleet.Pool // of the family
	made   fleet.Ref    // what was just built
}

// survey reads it from Proxmox, on all nodes.
func survey(ctx context.Context, b *proxmox.Builder, runnerPool, family string) (*world, error) {
	w := &world{family: family}
	nodes, err := b.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if !n.Online {
			continue // Clones refuses
		}
		found, err := b.Built(ctx, n.Name)
		if err != nil {
			return nil, err
		}
		for _, t := range found {
			if t.Info.Family == family && t.Template {
				w.built = append(w.built, t)
			}
		}
	}
	// After the templates: a clone made in between is then of a template that
	// is known.
	w.clones, err = b.Clones(ctx, runnerPool)
	return w, err
}

// serve notes which pools use the family.
func (w *world) serve(desired fleet.Desired) {
	for _, p := range desired.Pools {
		if p.Template.Family == w.family {
			w.pools = append(w.pools, p)
		}
	}
}

// versions are the finished ones, the newest first.
func (w *world) versions() []string {
	var out []string
	for _, t := range w.built {
		if t.Ready() && !slices.Contains(out, t.Info.Version) {
			out = append(out, t.Info.Version)
		}
	}
	slices.SortFunc(out, newestFirst)
	return out
}

func newestFirst(a, b string) int {
	switch {
	case fleet.Newer(a, b):
		return -1
	case fleet.Newer(b, a):
		return 1
	}
	return 0
}

// newest are the newest finished versions of each node, of those that are
// allowed.
func (w *world) newest(allowed func(version string) bool) map[string]string {
	out := map[string]string{}
	for _, t := range w.built {
		if best, ok := out[t.Node]; t.Ready() && allowed(t.Info.Version) && (!ok || fleet.Newer(t.Info.Version, best)) {
			out[t.Node] = t.Info.Version
		}
	}
	return out
}

// newestOn names the node on which a version is the newest of those allowed.
func (w *world) newestOn(version string, allowed func(version string) bool) (node string, is bool) {
	newest := w.newest(allowed)
	for _, t := range w.built {
		if t.Info.Version == version && newest[t.Node] == version {
			return t.Node, true
		}
	}
	return "", false
}

// usedBy says why a pool needs a version, or nothing: it names it, or would
// roll to it as the newest that it follows, or keeps it beside that one to go
// back to.
func (w *world) usedBy(p fleet.Pool, version string) string {
	pin := p.Template.Version
	if pin == version {
		return "pinned by pool " + p.Name
	}
	allowed := func(v string) bool { return p.Follow.Allows(v) && (pin == "" || !fleet.Newer(v, pin)) }
	if node, is := w.newestOn(version, allowed); is && pin == "" {
		return fmt.Sprintf("the newest on node %s that pool %s follows", node, p.Name)
	}
	usable := slices.DeleteFunc(w.versions(), func(v string) bool { return !allowed(v) })
	if rank := slices.Index(usable, version); rank >= 0 && rank <= p.Keep {
		return fmt.Sprintf("one of %d older ones that pool %s keeps", p.Keep, p.Name)
	}
	return ""
}

// clonesOf counts the clones of a version, whichever of its copies they are
// of. Replicas may be linked clones of each other: they do not count.
func (w *world) clonesOf(version string) int {
	n := 0
	for _, c := range w.clones {
		if w.is(c.VMID, version) {
			continue
		}
		own := c.Template == fleet.Ref{Family: w.family, Version: version}
		if own || slices.ContainsFunc(c.Bases, func(id fleet.VMID) bool { return w.is(id, version) }) {
			n++
		}
	}
	return n
}

// is reports whether a VMID is a copy of a version.
func (w *world) is(id fleet.VMID, version string) bool {
	return slices.ContainsFunc(w.built, func(t proxmox.Built) bool { return t.VMID == id && t.Info.Version == version })
}

// kept says why a version stays, or nothing.
func (w *world) kept(version string, keep int) string {
	rank := slices.Index(w.versions(), version)
	switch clones := w.clonesOf(version); {
	case clones > 0:
		return fmt.Sprintf("has %d clones", clones)
	case w.made == fleet.Ref{Family: w.family, Version: version}:
		return "was just built"
	case rank >= 0 && rank < keep:
		return fmt.Sprintf("one of the newest %d", keep)
	}
	for _, p := range w.pools {
		if why := w.usedBy(p, version); why != "" {
			return why
		}
	}
	if node, is := w.newestOn(version, func(string) bool { return true }); is {
		return "the newest on node " + node
	}
	return ""
}

// doomed are the templates to remove, the oldest first, every copy. What was
// never finished is left to the next build's sweep, which knows whether its
// build still runs; what was withdrawn before is removed.
func (w *world) doomed(keep int) []proxmox.Built {
	var out []proxmox.Built
	for _, t := range w.built {
		if (t.Ready() || withdrawn(t)) && w.kept(t.Info.Version, keep) == "" {
			out = append(out, t)
		}
	}
	slices.SortStableFunc(out, func(a, b proxmox.Built) int {
		// Replicas before the first copy: they may be linked clones of it.
		return cmp.Or(newestFirst(b.Info.Version, a.Info.Version), b.Info.Replica-a.Info.Replica)
	})
	return out
}

func withdrawn(t proxmox.Built) bool {
	return t.Info.State == "replaced" && !slices.Contains(t.Tags, proxmox.BuildingTag)
}

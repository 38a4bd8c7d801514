package proxmox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Clone is a container, or a template, that was cloned from a template of
// ours, as far as can be seen.
type Clone struct {
	Node     string
	VMID     fleet.VMID
	Name     string
	Template fleet.Ref    // empty: its description does not say
	Bases    []fleet.VMID // templates whose volumes its own are made of
}

// baseVolume is the volume of a template that a linked clone names beside its
// own: "local-zfs:basevol-9000-disk-0/subvol-101-disk-0". On LVM-thin and
// btrfs clones do not name it, and live on without it.
var baseVolume = regexp.MustCompile(`[:/](?:base|basevol)-([0-9]+)-disk-[0-9]+(?:\.[a-z0-9]+)?/`)

// Clones lists the containers that were cloned from templates, on all nodes:
// runners, by their manifest, whoever signed it, and any other by its volumes.
// It must see all members of the runners' resource pool: without the privilege
// there, what it does not see would count as no clone.
func (b *Builder) Clones(ctx context.Context, runnerPool string) ([]Clone, error) {
	if err := b.sees(ctx, runnerPool); err != nil {
		return nil, err
	}
	nodes, err := b.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	var out []Clone
	for _, n := range nodes {
		if !n.Online {
			return nil, fmt.Errorf("list clones: node %s is offline: %w", n.Name, fleet.ErrUnavailable)
		}
		found, err := b.clonesOn(ctx, n.Name)
		if err != nil {
			return nil, fmt.Errorf("list clones: %w", err)
		}
		out = append(out, found...)
	}
	return out, nil
}

func (b *Builder) sees(ctx context.Context, runnerPool string) error {
	if b.Root() {
		return nil
	}
	path := "/pool/" + runnerPool
	problems, err := b.c.missing(ctx, []need{{path, "VM.Audit", role{"DayflyPrune", []string{"VM.Audit", "Pool.Audit"}}, "to see which templates have clones", false}})
	if err != nil {
		return fmt.Errorf("check privileges: %w", err)
	}
	if len(problems) > 0 {
		return fmt.Errorf("list clones: %s: %w", problems[0], fleet.ErrDenied)
	}
	return nil
}

func (b *Builder) clonesOn(ctx context.Context, node string) ([]Clone, error) {
	guests, err := b.c.guestsOf(ctx, node)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", node, err)
	}
	var out []Clone
	for _, g := range guests {
		s, err := b.c.settings(ctx, node, g.id())
		if err != nil {
			if b.c.unlessGone(ctx, node, g.id(), err) == nil {
				continue
			}
			return nil, fmt.Errorf("configuration of %d: %w", g.id(), err)
		}
		c := Clone{Node: node, VMID: g.id(), Name: string(g.Name), Bases: s.bases()}
		if !g.Template { // a template's description is about itself
			c.Template = s.madeFrom()
		}
		if c.Template != (fleet.Ref{}) || len(c.Bases) > 0 {
			out = append(out, c)
		}
	}
	return out, nil
}

// madeFrom is the template that a description names: the runner's manifest, or
// the one that a clone takes from its template.
func (s settings) madeFrom() fleet.Ref {
	if m, err := fleet.ClaimedManifest(s.description()); err == nil {
		return m.Template
	}
	info, err := ReadTemplate(s.description())
	if err != nil || s.building(info) {
		return fleet.Ref{}
	}
	return info.Ref()
}

// building tells the container of a build, which is to become a template, from
// a clone that was made of one by hand.
func (s settings) building(info TemplateInfo) bool {
	return slices.Contains(splitTags(string(s["tags"])), BuildingTag) || info.State != "ready"
}

func (s settings) bases() []fleet.VMID {
	var out []fleet.VMID
	for _, value := range s {
		for _, m := range baseVolume.FindAllStringSubmatch(string(value), -1) {
			id, err := strconv.Atoi(m[1])
			if err == nil && !slices.Contains(out, fleet.VMID(id)) {
				out = append(out, fleet.VMID(id))
			}
		}
	}
	return out
}

// Withdraw makes a template one that is never used again, or takes that back,
// and returns its new description. It is done before a template is destroyed,
// so that nobody clones it at the same time.
func (b *Builder) Withdraw(ctx context.Context, t Built, back bool) error {
	info, tags := t.Info, slices.DeleteFunc(slices.Clone(t.Tags), func(tag string) bool { return tag == ReadyTag })
	info.State = "replaced"
	if back {
		info.State, tags = t.Info.State, t.Tags
	}
	s, err := b.c.settings(ctx, t.Node, t.VMID)
	if err != nil {
		return fmt.Errorf("read template %d: %w", t.VMID, err)
	}
	description, err := relabel(s.description(), info)
	if err != nil {
		return fmt.Errorf("template %d: %w", t.VMID, err)
	}
	return b.Change(ctx, t.Node, t.VMID, Options{"description": description, "tags": strings.Join(tags, ";")})
}

var manifestOfTemplate = regexp.MustCompile(`(?m)^` + templateLine + `.*$`)

// relabel replaces the manifest in a description, and leaves what people wrote.
func relabel(description string, info TemplateInfo) (string, error) {
	if _, err := fleet.OnlyLine(description, templateLine); err != nil {
		return "", err
	}
	line, err := json.Marshal(info)
	if err != nil {
		return "", err
	}
	return manifestOfTemplate.ReplaceAllLiteralString(description, templateLine+string(line)), nil
}

// Busy reports whether something holds a template right now: a clone of it
// that is being made. It is asked again after Withdraw.
func (b *Builder) Busy(ctx context.Context, t Built) (bool, error) {
	g, there, err := b.c.guest(ctx, t.Node, t.VMID)
	if err != nil || !there {
		return false, err
	}
	return g.Lock != "", nil
}

// StillUsed reports whether an error of Destroy says that linked clones use
// the template's volume.
func StillUsed(err error) bool {
	var task *TaskError
	return errors.As(err, &task) && inUse.MatchString(err.Error())
}

var inUse = regexp.MustCompile(`still in use by linked clones|has dependent clones|base volume .* in use`)

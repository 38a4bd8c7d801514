package pools

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Promotion is the wish that pools use a version of a template family.
type Promotion struct {
	Ref fleet.Ref

	// Templates and Pools name template blocks to edit, themselves or by the
	// pools that use them; a block without a version gets one. When both are
	// empty, every block of the family that has a version is edited: one
	// without a version follows the newest anyway.
	Templates, Pools []string
}

// Edited is what a promotion makes of pool files.
type Edited struct {
	Files     map[string][]byte // those that changed, whole, by path
	Templates []string          // names of the blocks that were edited
	Follows   []string          // blocks of the family that follow the newest version, and may take this one
	Excludes  []string          // blocks that follow the newest one which a constraint allows, and it leaves this one out: "t (< 3)"
	Pools     []string          // all pools that use an edited block
}

// Promote edits pool files, and nothing in them but the versions: comments and
// layout stay. Files that are not valid are refused, before and after.
func Promote(files map[string][]byte, p Promotion) (out Edited, err error) {
	defer func() { // the editor has its own parser
		if r := recover(); r != nil {
			out, err = Edited{}, fmt.Errorf("edit pool files: %v: %w", r, fleet.ErrInvalid)
		}
	}()
	if !familyForm.MatchString(p.Ref.Family) || !versionForm.MatchString(p.Ref.Version) {
		return Edited{}, fmt.Errorf("%s is no version of a template: %w", p.Ref, fleet.ErrInvalid)
	}
	if _, err := newSet("", files); err != nil {
		return Edited{}, err
	}
	plan, err := survey(files).choose(p)
	if err != nil {
		return Edited{}, err
	}
	out = Edited{Files: map[string][]byte{}, Follows: plan.follows, Excludes: plan.excludes}
	for name, src := range files {
		changed, names, err := setVersions(name, src, plan.targets, p.Ref.Version)
		if err != nil {
			return Edited{}, err
		}
		if len(names) > 0 {
			out.Files[name] = changed
			out.Templates = append(out.Templates, names...)
		}
	}
	slices.Sort(out.Templates)
	for _, pool := range sortedKeys(plan.users) {
		if slices.Contains(out.Templates, plan.users[pool]) {
			out.Pools = append(out.Pools, pool)
		}
	}
	return out, out.check(files)
}

// check parses the result: a promotion never commits what the daemon would
// refuse.
func (e Edited) check(before map[string][]byte) error {
	after := map[string][]byte{}
	for name, src := range before {
		after[name] = src
		if changed, ok := e.Files[name]; ok {
			after[name] = changed
		}
	}
	_, err := newSet("after the edit", after)
	return err
}

// survey is what a promotion needs to know of pool files.
type surveyed struct {
	made  map[string]template // template blocks, by name
	users map[string]string   // template block that a pool uses, by pool
}

// survey reads valid files.
func survey(files map[string][]byte) surveyed {
	bodies, _ := syntax(files)
	found, _ := blocks(bodies)
	ev := newEvaluator()
	for _, b := range found["locals"] {
		ev.declare(b.Body.(*hclsyntax.Body))
	}
	s := surveyed{made: newReader(ev).templates(found["template"]).made, users: map[string]string{}}
	var byDefault string
	for _, b := range found["defaults"] {
		byDefault = templateOf(b)
	}
	for _, b := range found["pool"] {
		s.users[b.Labels[0]] = byDefault
		if own := templateOf(b); own != "" {
			s.users[b.Labels[0]] = own
		}
	}
	return s
}

// templateOf is the name in a block's `template = template.NAME`, or nothing.
func templateOf(b *hcl.Block) string {
	attr, ok := b.Body.(*hclsyntax.Body).Attributes["template"]
	if !ok {
		return ""
	}
	ref, diags := hcl.AbsTraversalForExpr(attr.Expr)
	if diags.HasErrors() || len(ref) != 2 {
		return ""
	}
	step, _ := ref[1].(hcl.TraverseAttr)
	return step.Name
}

// chosen are the template blocks that a promotion is about.
type chosen struct {
	targets, follows, excludes []string
	users                      map[string]string
}

func (s surveyed) choose(p Promotion) (chosen, error) {
	c := chosen{users: s.users}
	named := slices.Clone(p.Templates)
	for _, pool := range p.Pools {
		template, ok := s.users[pool]
		if !ok {
			return c, fmt.Errorf("pool %q: there is none in the pool files%s: %w", pool, nearest(pool, s.users), fleet.ErrNotFound)
		}
		named = append(named, template)
	}
	for _, name := range named {
		ref, ok := s.made[name]
		if !ok {
			return c, fmt.Errorf("template %q: there is no such block in the pool files%s: %w", name, nearest(name, s.made), fleet.ErrNotFound)
		}
		if ref.Family != p.Ref.Family {
			return c, fmt.Errorf("template %q is of the family %s, not %s: %w", name, ref.Family, p.Ref.Family, fleet.ErrInvalid)
		}
		c.targets = append(c.targets, name)
	}
	if len(named) > 0 {
		return c, nil
	}
	for _, name := range sortedKeys(s.made) {
		switch t := s.made[name]; {
		case t.Family != p.Ref.Family:
		case t.Version != "":
			c.targets = append(c.targets, name)
		case t.follow.Allows(p.Ref.Version):
			c.follows = append(c.follows, name)
		default:
			c.excludes = append(c.excludes, fmt.Sprintf("%s (%s)", name, t.follow))
		}
	}
	if len(c.targets)+len(c.follows)+len(c.excludes) == 0 {
		return c, fmt.Errorf("no template block is of the family %s: %w", p.Ref.Family, fleet.ErrNotFound)
	}
	return c, nil
}

// setVersions edits one file, and returns the names of the blocks that it
// changed.
func setVersions(name string, src []byte, targets []string, version string) ([]byte, []string, error) {
	file, diags := hclwrite.ParseConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, nil, fmt.Errorf("edit %s: %w", name, diags)
	}
	var names []string
	for _, block := range file.Body().Blocks() {
		labels := block.Labels()
		if block.Type() != "template" || len(labels) != 1 || !slices.Contains(targets, labels[0]) {
			continue
		}
		old := ""
		if attr := block.Body().GetAttribute("version"); attr != nil {
			old = strings.TrimSpace(string(attr.Expr().BuildTokens(nil).Bytes()))
			if !literal(old) {
				return nil, nil, fmt.Errorf("edit %s: template %q computes its version (%s): only a version that is written out can be promoted: %w",
					name, labels[0], old, fleet.ErrInvalid)
			}
		}
		if old == fmt.Sprintf("%q", version) {
			continue
		}
		block.Body().SetAttributeValue("version", cty.StringVal(version))
		names = append(names, labels[0])
	}
	if len(names) == 0 {
		return nil, nil, nil
	}
	out := file.Bytes()
	if bytes.Equal(hclwrite.Format(src), src) { // else the layout is somebody's own
		out = hclwrite.Format(out)
	}
	return out, names, nil
}

// literal reports whether an expression is one text without interpolation.
func literal(expr string) bool {
	e, diags := hclsyntax.ParseExpression([]byte(expr), "", hcl.InitialPos)
	if diags.HasErrors() {
		return false
	}
	t, ok := e.(*hclsyntax.TemplateExpr)
	return ok && t.IsStringLiteral()
}

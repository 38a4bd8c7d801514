package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/pools"
	examples "github.com/dayfly-ci/dayfly/pools"
)

// demoRepo is the git repository of the demo's pools: a bare one, as on a
// server, so that more than one may push to it.
type demoRepo struct{ dir string }

// operator is who commits by hand.
var operator = pools.Author{Name: "an operator", Email: "operator@acme.example"}

// newDemoRepo makes a repository whose first commit is the example pools.
func newDemoRepo(ctx context.Context, dir string) (*demoRepo, error) {
	write := func(desk string) error { return copyTree(desk, examples.FS) }
	if err := firstCommit(dir, write); err != nil {
		return nil, fmt.Errorf("make repository: %w", err)
	}
	r := &demoRepo{dir}
	// The demo has no hour to wait for, and wants to see a full pool.
	_, err := r.edit(ctx, "a day of minutes: short deadlines, a small pool", map[string][]setting{
		"dayfly.hcl": {
			{path: []string{"defaults", "timeouts"}, name: "register", value: cty.StringVal("5s")},
			{path: []string{"defaults", "timeouts"}, name: "idle", value: cty.StringVal("10s")},
			{path: []string{"defaults", "rollout"}, name: "smoke", value: cty.NumberIntVal(1)},
			{path: []string{"defaults", "rollout"}, name: "wait", value: cty.StringVal("0s")},
			{path: []string{"defaults", "rollout"}, name: "bake", value: cty.StringVal("2s")},
			{path: []string{"defaults", "rollout"}, name: "max_infra_failures", value: cty.NumberIntVal(1)},
			{path: []string{"defaults", "rollout", "canary"}, name: "jobs", value: cty.NumberIntVal(1)},
		},
		"linux.hcl": {
			{path: []string{"pool linux-x64", "scale"}, name: "max", value: cty.NumberIntVal(6)},
			// Few jobs come to it: it would be in the middle of a roll-out all day.
			{path: []string{"pool linux-large"}, name: "template", to: hcl.Traversal{
				hcl.TraverseRoot{Name: "template"}, hcl.TraverseAttr{Name: "ubuntu-24-pinned"},
			}},
		},
	})
	return r, err
}

// firstCommit makes a bare repository with one commit. Its files are checked
// out for as long as that takes.
func firstCommit(dir string, write func(desk string) error) error {
	desk := dir + ".desk"
	defer os.RemoveAll(desk)
	repo, err := git.PlainInitWithOptions(desk, &git.PlainInitOptions{
		InitOptions: git.InitOptions{DefaultBranch: plumbing.NewBranchReferenceName("main")},
	})
	if err != nil {
		return err
	}
	if err := write(desk); err != nil {
		return err
	}
	tree, err := repo.Worktree()
	if err != nil {
		return err
	}
	if err := tree.AddGlob("*.hcl"); err != nil {
		return err
	}
	author := &object.Signature{Name: operator.Name, Email: operator.Email, When: time.Now()}
	if _, err := tree.Commit("the example pools", &git.CommitOptions{Author: author}); err != nil {
		return err
	}
	conf, err := repo.Config()
	if err != nil {
		return err
	}
	conf.Core.IsBare = true
	if err := repo.SetConfig(conf); err != nil {
		return err
	}
	return os.Rename(filepath.Join(desk, ".git"), dir)
}

// setting is one attribute to set: the blocks that lead to it, its name and
// value.
type setting struct {
	path  []string // "pool linux-x64", "scale"
	name  string
	value cty.Value
	to    hcl.Traversal // what it refers to, in place of a value
}

// edit changes attributes, as an operator would, and commits.
func (r *demoRepo) edit(ctx context.Context, message string, changes map[string][]setting) (commit string, err error) {
	return r.commit(ctx, func(files map[string][]byte) (map[string][]byte, string, error) {
		changed := map[string][]byte{}
		for name, list := range changes {
			text, err := set(name, files[name], list)
			if err != nil {
				return nil, "", err
			}
			changed[name] = text
		}
		return changed, message, nil
	})
}

// promote has a template block use a version, as dayfly-promote does.
func (r *demoRepo) promote(ctx context.Context, ref fleet.Ref) (commit string, err error) {
	return r.commit(ctx, func(files map[string][]byte) (map[string][]byte, string, error) {
		out, err := pools.Promote(files, pools.Promotion{Ref: ref, Templates: []string{"ubuntu-24"}})
		return out.Files, "use " + ref.String(), err
	})
}

func (r *demoRepo) commit(ctx context.Context, change pools.Change) (string, error) {
	id, _, err := pools.GitConfig{URL: r.dir, Branch: "main"}.Commit(ctx, "", operator, change)
	if err != nil {
		return "", fmt.Errorf("edit pools: %w", err)
	}
	return id, nil
}

// force moves the branch to a revision, wherever it is, as a forced push does.
// It returns the commit.
func (r *demoRepo) force(revision string) (commit string, err error) {
	repo, err := git.PlainOpen(r.dir)
	if err != nil {
		return "", fmt.Errorf("force branch to %s: %w", revision, err)
	}
	to, err := repo.ResolveRevision(plumbing.Revision(revision))
	if err == nil {
		err = repo.Storer.SetReference(plumbing.NewHashReference("refs/heads/main", *to))
	}
	if err != nil {
		return "", fmt.Errorf("force branch to %s: %w", revision, err)
	}
	return to.String(), nil
}

// set changes attributes of a file.
func set(name string, src []byte, list []setting) ([]byte, error) {
	file, diags := hclwrite.ParseConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, diags
	}
	for _, s := range list {
		body, err := bodyAt(file.Body(), s.path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if s.to != nil {
			body.SetAttributeTraversal(s.name, s.to)
		} else {
			body.SetAttributeValue(s.name, s.value)
		}
	}
	return hclwrite.Format(file.Bytes()), nil
}

// bodyAt follows block names, with their label behind a space, to a body.
func bodyAt(body *hclwrite.Body, path []string) (*hclwrite.Body, error) {
next:
	for _, step := range path {
		for _, b := range body.Blocks() {
			name := b.Type()
			for _, l := range b.Labels() {
				name += " " + l
			}
			if name == step {
				body = b.Body()
				continue next
			}
		}
		return nil, fmt.Errorf("no block %q", step)
	}
	return body, nil
}

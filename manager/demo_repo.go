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
	return r, r.edit(ctx, "a day of minutes: short deadlines, a small pool", map[string][]setting{
		"dayfly.hcl": {
			{[]string{"defaults", "timeouts"}, "register", cty.StringVal("5s")},
			{[]string{"defaults", "timeouts"}, "idle", cty.StringVal("10s")},
			{[]string{"defaults", "rollout"}, "smoke", cty.NumberIntVal(1)},
			{[]string{"defaults", "rollout"}, "wait", cty.StringVal("0s")},
			{[]string{"defaults", "rollout"}, "bake", cty.StringVal("10s")},
			{[]string{"defaults", "rollout", "canary"}, "jobs", cty.NumberIntVal(0)}, // no job comes before dawn
		},
		"linux.hcl": {{[]string{"pool linux-x64", "scale"}, "max", cty.NumberIntVal(6)}},
	})
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
}

// edit changes attributes, as an operator would, and commits.
func (r *demoRepo) edit(ctx context.Context, message string, changes map[string][]setting) error {
	change := func(files map[string][]byte) (map[string][]byte, string, error) {
		changed := map[string][]byte{}
		for name, list := range changes {
			text, err := set(name, files[name], list)
			if err != nil {
				return nil, "", err
			}
			changed[name] = text
		}
		return changed, message, nil
	}
	_, _, err := pools.GitConfig{URL: r.dir, Branch: "main"}.Commit(ctx, "", operator, change)
	if err != nil {
		return fmt.Errorf("edit pools: %w", err)
	}
	return nil
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
		body.SetAttributeValue(s.name, s.value)
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

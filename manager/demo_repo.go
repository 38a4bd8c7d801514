package main

import (
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

	examples "github.com/dayfly-ci/dayfly/pools"
)

// demoRepo is the git repository of the demo's pools.
type demoRepo struct {
	dir  string
	repo *git.Repository
	tree *git.Worktree
}

// newDemoRepo makes a repository whose first commit is the example pools.
func newDemoRepo(dir string) (*demoRepo, error) {
	repo, err := git.PlainInitWithOptions(dir, &git.PlainInitOptions{
		InitOptions: git.InitOptions{DefaultBranch: plumbing.NewBranchReferenceName("main")},
	})
	if err != nil {
		return nil, fmt.Errorf("make repository: %w", err)
	}
	tree, err := repo.Worktree()
	if err != nil {
		return nil, fmt.Errorf("make repository: %w", err)
	}
	r := &demoRepo{dir: dir, repo: repo, tree: tree}
	if err := copyTree(dir, examples.FS); err != nil {
		return nil, fmt.Errorf("make repository: %w", err)
	}
	if _, err := r.commit("the example pools"); err != nil {
		return nil, err
	}
	// The demo has no hour to wait for, and wants to see a full pool.
	return r, r.edit("a day of minutes: short deadlines, a small pool", map[string][]setting{
		"dayfly.hcl": {
			{[]string{"defaults", "timeouts"}, "register", cty.StringVal("5s")},
			{[]string{"defaults", "timeouts"}, "idle", cty.StringVal("10s")},
		},
		"linux.hcl": {{[]string{"pool linux-x64", "scale"}, "max", cty.NumberIntVal(6)}},
	})
}

// setting is one attribute to set: the blocks that lead to it, its name and
// value.
type setting struct {
	path  []string // "pool linux-x64", "scale"
	name  string
	value cty.Value
}

// edit changes attributes, as an operator would, and commits.
func (r *demoRepo) edit(message string, changes map[string][]setting) error {
	for name, list := range changes {
		path := filepath.Join(r.dir, name)
		src, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("edit pools: %w", err)
		}
		file, diags := hclwrite.ParseConfig(src, name, hcl.InitialPos)
		if diags.HasErrors() {
			return fmt.Errorf("edit pools: %w", diags)
		}
		for _, s := range list {
			body, err := bodyAt(file.Body(), s.path)
			if err != nil {
				return fmt.Errorf("edit pools: %s: %w", name, err)
			}
			body.SetAttributeValue(s.name, s.value)
		}
		if err := os.WriteFile(path, hclwrite.Format(file.Bytes()), 0o644); err != nil {
			return fmt.Errorf("edit pools: %w", err)
		}
	}
	_, err := r.commit(message)
	return err
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

func (r *demoRepo) commit(message string) (string, error) {
	if err := r.tree.AddGlob("*.hcl"); err != nil {
		return "", fmt.Errorf("commit pools: %w", err)
	}
	id, err := r.tree.Commit(message, &git.CommitOptions{
		Author: &object.Signature{Name: "an operator", Email: "operator@acme.example", When: time.Now()},
	})
	if err != nil {
		return "", fmt.Errorf("commit pools: %w", err)
	}
	return id.String(), nil
}

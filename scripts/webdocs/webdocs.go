package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// component is one of the plugin's components and its page.
type component struct {
	folder string // below plugin
	kind   string // the registry's word for it
	name   string // without the plugin's, "lxc" of dayfly-lxc
	page   string // below plugin/docs
}

var components = []component{
	{"lxc", "builder", "lxc", "builders/lxc.mdx"},
	{"runner", "provisioner", "runner", "provisioners/runner.mdx"},
	{"release", "data-source", "runner-release", "datasources/runner-release.mdx"},
	{"template", "data-source", "template", "datasources/template.mdx"},
	{"promote", "post-processor", "promote", "post-processors/promote.mdx"},
	{"prune", "post-processor", "prune", "post-processors/prune.mdx"},
}

// shared is the folder of fields that several components have.
const shared = "access"

// path is where the registry looks for the page, below .web-docs.
func (c component) path() string { return "components/" + c.kind + "/" + c.name + "/README.md" }

// write renders the pages of the repository at root.
func write(root, out string) error {
	sdc, err := tool(root)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "dayfly-webdocs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	// packer-sdc takes the folder of this name for the root, and stops
	// without one; the repository may be checked out under any name.
	project := filepath.Join(tmp, "packer-plugin-dayfly")
	if err := partials(sdc, root, project); err != nil {
		return err
	}
	rendered := filepath.Join(tmp, "rendered")
	if err := run(sdc, root, "renderdocs", "-src", filepath.Join("plugin", "docs"),
		"-partials", filepath.Join(project, "docs-partials"), "-dst", rendered); err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	errs := []error{place(rendered, "README.md", out, "README.md"), place(rendered, "metadata.hcl", out, "metadata.hcl")}
	for _, c := range components {
		errs = append(errs, place(rendered, c.page, out, c.path()))
	}
	return errors.Join(errs...)
}

// tool is the path of packer-sdc, in the version of our go.mod.
func tool(root string) (string, error) {
	cmd := exec.Command("go", "tool", "-n", "packer-sdc")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find packer-sdc: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// partials lets packer-sdc write the lists of fields, below project.
func partials(sdc, root, project string) error {
	folders := []string{shared}
	for _, c := range components {
		folders = append(folders, c.folder)
	}
	for _, folder := range folders {
		files, err := configs(root, folder)
		if err != nil {
			return err
		}
		for _, file := range files {
			text, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				return err
			}
			to := filepath.Join(project, file)
			if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, 0o644)); err != nil {
				return err
			}
			if err := run(sdc, project, "struct-markdown", file); err != nil {
				return err
			}
		}
	}
	return nil
}

// configs lists the files with fields of a component's configuration, relative
// to root.
func configs(root, folder string) ([]string, error) {
	all, err := filepath.Glob(filepath.Join(root, "plugin", folder, "*.go"))
	if err != nil {
		return nil, err
	}
	var files []string
	for _, file := range all {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(file, ".hcl2spec.go") || strings.HasSuffix(file, "_test.go") || !bytes.Contains(text, []byte("`mapstructure:")) {
			continue
		}
		files = append(files, filepath.Join("plugin", folder, filepath.Base(file)))
	}
	return files, nil
}

func run(program, dir string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("packer-sdc %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func place(from, page, to, path string) error {
	text, err := os.ReadFile(filepath.Join(from, filepath.FromSlash(page)))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("plugin/docs/%s is missing", page)
	}
	if err != nil {
		return err
	}
	file := filepath.Join(to, filepath.FromSlash(path))
	return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, text, 0o644))
}

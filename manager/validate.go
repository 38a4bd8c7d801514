package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dayfly-ci/dayfly/internal/pools"
)

func (p *program) validateCommand() *cobra.Command {
	var path string
	cmd := p.reads(&cobra.Command{
		Use:   "validate [DIR|FILE]...",
		Short: "check pool files, or the daemon's configuration",
		Long: `Check pool files without a daemon: the *.hcl files of each DIR and below, and
each FILE, together as one configuration; the current folder when none is named.

With --config, check the daemon's configuration instead, and the files it
names. Credentials of systemd are only there in the service: here, only their
names are checked.

exit codes: 0 valid, 1 invalid, 2 wrong usage.`,
		Example: "  dayfly validate pools\n  dayfly validate --config /etc/dayfly/dayfly.hcl",
		GroupID: groupOther,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case path == "":
				return p.validatePools(args)
			case len(args) > 0:
				return misuse(cmd, errors.New("--config and pool files are checked one at a time"))
			}
			return p.validateConfig(path)
		},
	})
	cmd.Flags().StringVar(&path, "config", "", "check this `FILE`, a daemon's configuration, instead of pool files")
	return cmd
}

func (p *program) validateConfig(path string) error {
	c, diags, err := readConfig(path)
	if err != nil {
		return err
	}
	if !diags.list.HasErrors() {
		c.readSecrets(diags, os.Getenv("CREDENTIALS_DIRECTORY"), false)
		c.Pools.look(diags)
	}
	n := len(diags.list)
	if p.json {
		err = writeJSON(p.out, diags.report())
	} else {
		err = diags.write(p.err, styleOf(p.err))
	}
	return p.verdict(path, n, err)
}

func (p *program) validatePools(args []string) error {
	if len(args) == 0 {
		args = []string{"."}
	}
	files, left, err := poolFiles(args)
	if err != nil {
		return err
	}
	_, diags := pools.Parse(files)
	diags = diags.With(left)
	if p.json {
		err = writeJSON(p.out, diags)
	} else {
		err = diags.WriteText(p.err, 0, bool(styleOf(p.err)))
	}
	n := 0
	if diags.HasErrors() {
		n = diags.Report().ErrorCount
	}
	return p.verdict(strings.Join(args, " "), n, err)
}

// verdict ends a validation that found n errors.
func (p *program) verdict(what string, n int, err error) error {
	switch {
	case err != nil:
		return err
	case n > 0:
		return fmt.Errorf("validate %s: %s", what, plural(n, "error"))
	case !p.json:
		_, err = fmt.Fprintf(p.out, "%s: valid\n", what)
	}
	return err
}

// poolFiles reads the files that paths name, as the daemon would, and tells
// what it would leave out.
func poolFiles(paths []string) (files map[string][]byte, left pools.Diagnostics, err error) {
	files = map[string][]byte{}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, left, fmt.Errorf("read pool files: %w", err)
		}
		if !info.IsDir() {
			if files[path], err = os.ReadFile(path); err != nil {
				return nil, left, fmt.Errorf("read pool files: %w", err)
			}
			continue
		}
		found, out, err := pools.Files(path)
		if err != nil {
			return nil, left, err
		}
		if len(found) == 0 && out.Len() == 0 {
			return nil, left, fmt.Errorf("read pool files: %s has no *.hcl files", path)
		}
		maps.Copy(files, found)
		left = left.With(out)
	}
	return files, left, nil
}

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/dayfly-ci/dayfly/internal/pools"
)

// formatting is what "dayfly fmt" was asked for.
type formatting struct{ check, diff bool }

// formatted is what it found, as --json prints it.
type formatted struct {
	FormatVersion string   `json:"format_version"`
	Changed       []string `json:"changed"` // files that were, or with --check would be, written
}

func (p *program) fmtCommand() *cobra.Command {
	var f formatting
	cmd := p.reads(&cobra.Command{
		Use:   "fmt [DIR|FILE|-]...",
		Short: "write pool files in the usual form",
		Long: `Write pool files in the usual form: the *.hcl files of each DIR and below, and
each FILE; the current folder when none is named. Only spaces change. The names
of files that were changed are printed. With -, the standard input is written to
the standard output.

exit codes: 0 done, 1 error, 2 wrong usage, or with --check files that are not
in this form.`,
		Example: "  dayfly fmt pools\n  dayfly fmt --check --diff pools",
		GroupID: groupOther,
		RunE: func(cmd *cobra.Command, args []string) error {
			if slices.Contains(args, "-") {
				if len(args) > 1 || f != (formatting{}) {
					return misuse(cmd, errors.New("- stands alone"))
				}
				return p.formatInput()
			}
			return p.format(args, f)
		},
	})
	cmd.Flags().BoolVar(&f.check, "check", false, "write nothing")
	cmd.Flags().BoolVar(&f.diff, "diff", false, "show what changes")
	return cmd
}

// maxInput is above what a pool file may have.
const maxInput = 1 << 20

func (p *program) formatInput() error {
	text, err := io.ReadAll(io.LimitReader(p.in, maxInput))
	if err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	out, diags := pools.Format("-", text)
	if diags.HasErrors() {
		return p.unformatted("standard input", diags)
	}
	_, err = p.out.Write(out)
	return err
}

func (p *program) format(args []string, f formatting) error {
	if len(args) == 0 {
		args = []string{"."}
	}
	files, _, err := poolFiles(args)
	if err != nil {
		return err
	}
	found := formatted{FormatVersion: "1.0", Changed: []string{}}
	bad := 0
	for _, name := range sortedNames(files) {
		out, diags := pools.Format(name, files[name])
		if diags.HasErrors() {
			bad++
			if err := diags.WriteText(p.err, 0, bool(styleOf(p.err))); err != nil {
				return err
			}
			continue
		}
		if string(out) == string(files[name]) {
			continue
		}
		found.Changed = append(found.Changed, name)
		if err := p.changed(name, files[name], out, f); err != nil {
			return err
		}
	}
	if p.json {
		if err := writeJSON(p.out, found); err != nil {
			return err
		}
	}
	switch {
	case bad > 0:
		return fmt.Errorf("format pool files: %s cannot be read", plural(bad, "file"))
	case f.check && len(found.Changed) > 0:
		return errNotice
	}
	return nil
}

// changed shows and writes one file.
func (p *program) changed(name string, old, out []byte, f formatting) error {
	if !p.json {
		fmt.Fprintln(p.out, name)
		if f.diff {
			_, _ = p.out.Write(diff.Diff(name+" as it is", old, name+" as it should be", out))
		}
	}
	if f.check {
		return nil
	}
	return replaceFile(name, out)
}

// replaceFile writes a file beside the old one and puts it in its place, so
// that there is a whole one at any time.
func replaceFile(name string, text []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", name, err)
		}
	}()
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	fresh, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(fresh.Name()) // gone already if all went well
	_, err = fresh.Write(text)
	err = errors.Join(err, fresh.Chmod(info.Mode().Perm()), fresh.Close())
	if err != nil {
		return err
	}
	return os.Rename(fresh.Name(), name)
}

func (p *program) unformatted(what string, diags pools.Diagnostics) error {
	if err := diags.WriteText(p.err, 0, bool(styleOf(p.err))); err != nil {
		return err
	}
	return fmt.Errorf("format %s: %s", what, plural(diags.Report().ErrorCount, "error"))
}

func sortedNames(files map[string][]byte) []string {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

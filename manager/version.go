package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker (make build); otherwise Go's own record of the
// build tells it.
var version string

// buildVersion is what this binary was built from.
type buildVersion struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // the git commit
	Time     string `json:"time,omitempty"`     // of the commit
	Modified bool   `json:"modified"`           // built from a tree with changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisVersion() buildVersion {
	v := buildVersion{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		v.Version = cmp.Or(v.Version, "unknown")
		return v
	}
	v.Version = cmp.Or(v.Version, info.Main.Version, "(devel)")
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (p *program) versionCommand() *cobra.Command {
	return p.reads(&cobra.Command{
		Use:     "version",
		Short:   "print what this program was built from",
		GroupID: groupOther,
		Args:    takes(),
		RunE: func(*cobra.Command, []string) error {
			v := thisVersion()
			if p.json {
				return writeJSON(p.out, v)
			}
			_, err := fmt.Fprintf(p.out, "dayfly %s (%s, %s)\n", v.Version, v.Go, v.Platform)
			return err
		},
	})
}

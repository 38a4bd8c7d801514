//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config,DatasourceOutput

// Package template is the data source dayfly-template: it finds templates that
// were baked before, and says which version comes next.
package template

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/hcl2helper"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/zclconf/go-cty/cty"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/plugin/access"
	"github.com/dayfly-ci/dayfly/plugin/release"
)

// Config is the configuration of the data source.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`
	access.Proxmox      `mapstructure:",squash"`

	// Family to look for, `ubuntu-24.04`.
	Family string `mapstructure:"family" required:"true"`
	// Version to look for. It must exist. Default: the newest finished one,
	// or none.
	Version string `mapstructure:"version"`
	// Nodes to look on. Default: all that are online.
	Nodes []string `mapstructure:"nodes"`
	// What `next_version` begins with; a number that was not used yet
	// follows: `2.337.0` gives `2.337.0-1`, then `2.337.0-2`. Default: the
	// version of the runner that this release of the plugin pins.
	BaseVersion string `mapstructure:"base_version"`
	// Fail when no template of the family is there (default false).
	MustExist bool `mapstructure:"must_exist"`
	// How long to look (default `1m`).
	Timeout time.Duration `mapstructure:"timeout"`
}

// DatasourceOutput is what the data source gives. All but `next_version` and
// `versions` are empty when there is no such template.
type DatasourceOutput struct {
	// The family.
	Family string `mapstructure:"family"`
	// Version of the template that was found.
	Version string `mapstructure:"version"`
	// The first free version with `base_version`. One that is being built, or
	// was left by a build that died, is not free.
	NextVersion string `mapstructure:"next_version"`
	// All finished versions, the newest first.
	Versions []string `mapstructure:"versions"`
	// VMID of the template, of its first copy when there are several.
	VMID string `mapstructure:"vmid"`
	// Node that it is on.
	Node string `mapstructure:"node"`
	// Name of the template.
	Name string `mapstructure:"name"`
	// Storage that it is on.
	Storage string `mapstructure:"storage"`
	// Version of the runner in it.
	RunnerVersion string `mapstructure:"runner_version"`
	// sha256 of that runner's tarball.
	RunnerSHA256 string `mapstructure:"runner_sha256"`
	// Operating system in it.
	OS string `mapstructure:"os"`
	// Version of Docker in it.
	DockerVersion string `mapstructure:"docker_version"`
	// Docker's storage driver in it.
	StorageDriver string `mapstructure:"storage_driver"`
	// Base image or template that it was made from.
	Source string `mapstructure:"source"`
	// Git commit that it was made from.
	Commit string `mapstructure:"commit"`
	// When it was built, in RFC 3339.
	BuiltAt string `mapstructure:"built_at"`
}

// Datasource is the data source.
type Datasource struct {
	config Config
}

var _ packersdk.Datasource = (*Datasource)(nil)

// Forms of names, those of pool files.
var (
	familyForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	versionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$`)
)

// ConfigSpec implements packersdk.HCL2Speccer.
func (d *Datasource) ConfigSpec() hcldec.ObjectSpec { return d.config.FlatMapstructure().HCL2Spec() }

// OutputSpec implements packersdk.Datasource.
func (d *Datasource) OutputSpec() hcldec.ObjectSpec {
	return (&DatasourceOutput{}).FlatMapstructure().HCL2Spec()
}

// Configure reads the configuration and reports all of its errors at once.
func (d *Datasource) Configure(raws ...any) error {
	c := &d.config
	if err := config.Decode(c, &config.DecodeOpts{PluginType: "dayfly-template", Interpolate: true}, raws...); err != nil {
		return err
	}
	c.Prepare()
	c.BaseVersion = cmp.Or(c.BaseVersion, release.Version)
	c.Timeout = cmp.Or(c.Timeout, time.Minute)
	errs := c.Check()
	say := func(format string, args ...any) {
		if access.Known(args...) {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	if !familyForm.MatchString(c.Family) {
		say("family: %q: want 1 to 64 letters, digits and _.-", c.Family)
	}
	if c.Version != "" && !versionForm.MatchString(c.Version) {
		say("version: %q: want 1 to 64 letters, digits and _.+-", c.Version)
	}
	if !versionForm.MatchString(c.BaseVersion) || len(c.BaseVersion) > 56 {
		say("base_version: %q: want 1 to 56 letters, digits and _.+-", c.BaseVersion)
	}
	if c.Timeout < 0 {
		say("timeout: %s: want a time ahead", c.Timeout)
	}
	return errors.Join(errs...)
}

// Execute looks for the template.
func (d *Datasource) Execute() (cty.Value, error) {
	out, err := d.find()
	if err != nil {
		return cty.NullVal(cty.EmptyObject), err
	}
	return hcl2helper.HCL2ValueFromConfig(out, d.OutputSpec()), nil
}

func (d *Datasource) find() (DatasourceOutput, error) {
	c := &d.config
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	b, err := c.Builder()
	if err != nil {
		return DatasourceOutput{}, err
	}
	defer b.Close()
	built, err := c.look(ctx, b)
	if err != nil {
		return DatasourceOutput{}, fmt.Errorf("look for templates of the family %s: %w", c.Family, err)
	}
	return c.output(built)
}

// look lists everything of the family, finished or not.
func (c *Config) look(ctx context.Context, b *proxmox.Builder) ([]proxmox.Built, error) {
	nodes, err := c.nodes(ctx, b)
	if err != nil {
		return nil, err
	}
	var out []proxmox.Built
	for _, node := range nodes {
		found, err := b.Built(ctx, node)
		if err != nil {
			return nil, err
		}
		for _, t := range found {
			if t.Info.Family == c.Family {
				out = append(out, t)
			}
		}
	}
	return out, nil
}

// nodes are those to look on. One that was asked for and does not answer is an
// error: what is on it would be missed.
func (c *Config) nodes(ctx context.Context, b *proxmox.Builder) ([]string, error) {
	all, err := b.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	var names, online []string
	for _, n := range all {
		names = append(names, n.Name)
		if n.Online {
			online = append(online, n.Name)
		}
	}
	for i, want := range c.Nodes {
		switch {
		case !slices.Contains(names, want):
			return nil, fmt.Errorf("nodes[%d]: there is no node %s; hint: the cluster has %s", i, want, strings.Join(names, ", "))
		case !slices.Contains(online, want):
			return nil, fmt.Errorf("nodes[%d]: node %s is offline; hint: start it, or look without it", i, want)
		}
	}
	if len(c.Nodes) > 0 {
		return c.Nodes, nil
	}
	return online, nil
}

func (c *Config) output(built []proxmox.Built) (DatasourceOutput, error) {
	out := DatasourceOutput{Family: c.Family, NextVersion: next(c.BaseVersion, built), Versions: []string{}}
	var ready []proxmox.Built
	for _, t := range built {
		if t.Ready() {
			ready = append(ready, t)
		}
	}
	slices.SortStableFunc(ready, newestFirst)
	for _, t := range ready {
		if !slices.Contains(out.Versions, t.Info.Version) {
			out.Versions = append(out.Versions, t.Info.Version)
		}
	}
	i := slices.IndexFunc(ready, func(t proxmox.Built) bool { return c.Version == "" || t.Info.Version == c.Version })
	switch {
	case i >= 0:
		out.describe(ready[i])
	case c.Version != "":
		return out, fmt.Errorf("template %s: %w%s", fleet.Ref{Family: c.Family, Version: c.Version}, fleet.ErrNotFound, there(out.Versions))
	case c.MustExist:
		return out, fmt.Errorf("template %s: %w: none is finished, or the token has no VM.Audit on it", c.Family, fleet.ErrNotFound)
	}
	return out, nil
}

func there(versions []string) string {
	if len(versions) == 0 {
		return ""
	}
	return "; there are " + strings.Join(versions, ", ")
}

func newestFirst(a, b proxmox.Built) int {
	switch {
	case fleet.Newer(a.Info.Version, b.Info.Version):
		return -1
	case fleet.Newer(b.Info.Version, a.Info.Version):
		return 1
	}
	return cmp.Or(cmp.Compare(a.Info.Replica, b.Info.Replica), cmp.Compare(a.Node, b.Node), cmp.Compare(a.VMID, b.VMID))
}

// next is the first version after all of base that were ever begun: a version
// is never made twice.
func next(base string, built []proxmox.Built) string {
	last := 0
	for _, t := range built {
		rest, ok := strings.CutPrefix(t.Info.Version, base+"-")
		if n, err := strconv.Atoi(rest); ok && err == nil {
			last = max(last, n)
		}
	}
	return fmt.Sprintf("%s-%d", base, last+1)
}

func (o *DatasourceOutput) describe(t proxmox.Built) {
	i := t.Info
	o.Version, o.VMID, o.Node, o.Name, o.Storage = i.Version, strconv.Itoa(int(t.VMID)), t.Node, t.Name, t.Storage
	o.RunnerVersion, o.RunnerSHA256, o.OS, o.DockerVersion = i.Runner, i.RunnerSHA256, i.OS, i.Docker
	o.StorageDriver, o.Source, o.Commit = i.StorageDriver, i.Source, i.Commit
	if !i.BuiltAt.IsZero() {
		o.BuiltAt = i.BuiltAt.UTC().Format(time.RFC3339)
	}
}

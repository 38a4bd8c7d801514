//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config

// Package prune is the post-processor dayfly-prune: it removes old versions of
// a template. It never removes one that a pool pins or keeps, that has clones,
// or that is the newest on its node, of all or of those that a pool follows,
// and nothing when it cannot see all of that.
package prune

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"time"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/pools"
	"github.com/dayfly-ci/dayfly/plugin/access"
)

// Config is the configuration of the post-processor.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`
	access.Proxmox      `mapstructure:",squash"`
	access.Repository   `mapstructure:",squash"`

	// How many versions of the family to keep (default 3), the newest ones.
	// The version that was just built, those that pools pin, the newest that
	// a pool's constraint allows, as many older ones as its `template` block
	// keeps (`keep`, 3 unless it says otherwise), and those with clones are
	// kept beyond them.
	KeepReleases int `mapstructure:"keep_releases"`
	// Family of the templates. Default: that of the artifact.
	Family string `mapstructure:"family"`
	// Resource pool of the runners' containers, which must all be visible to
	// the token: it needs `VM.Audit` on the pool. A container of which nothing
	// is seen would be a clone that does not count.
	RunnerPool string `mapstructure:"runner_pool" required:"true"`
	// Directory of the pool files on this machine, an absolute path. Give
	// this or `repository`.
	PoolsDirectory string `mapstructure:"pools_directory"`
	// Only say what would be removed (default false).
	DryRun bool `mapstructure:"dry_run"`
	// How long all of it may take (default `15m`).
	Timeout time.Duration `mapstructure:"timeout"`

	ctx interpolate.Context
}

// PostProcessor is the post-processor.
type PostProcessor struct {
	config Config
}

var _ packersdk.PostProcessor = (*PostProcessor)(nil)

// Forms of names, those of pool files and of Proxmox.
var (
	familyForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	poolForm   = regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$`)
)

// ConfigSpec implements packersdk.HCL2Speccer.
func (p *PostProcessor) ConfigSpec() hcldec.ObjectSpec { return p.config.FlatMapstructure().HCL2Spec() }

// Configure reads the configuration and reports all of its errors at once.
func (p *PostProcessor) Configure(raws ...any) error {
	c := &p.config
	if err := config.Decode(c, &config.DecodeOpts{
		PluginType: "dayfly-prune", Interpolate: true, InterpolateContext: &c.ctx,
	}, raws...); err != nil {
		return err
	}
	c.Proxmox.Prepare()
	c.Repository.Prepare()
	c.KeepReleases = cmp.Or(c.KeepReleases, 3)
	c.Timeout = cmp.Or(c.Timeout, 15*time.Minute)
	errs := c.Proxmox.Check()
	say := func(format string, args ...any) {
		if access.Known(args...) {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	switch {
	case c.PoolsDirectory == "" && c.Repository.Repository == "":
		say("repository: give this or pools_directory: versions that pools pin are never removed")
	case c.PoolsDirectory != "" && c.Repository.Repository != "":
		say("pools_directory: give this or repository")
	case c.PoolsDirectory != "" && !filepath.IsAbs(c.PoolsDirectory):
		say("pools_directory: %q: want an absolute path", c.PoolsDirectory)
	case c.PoolsDirectory == "":
		errs = append(errs, c.Repository.Check()...)
	}
	if c.KeepReleases < 1 {
		say("keep_releases: %d: want at least 1", c.KeepReleases)
	}
	if c.Family != "" && !familyForm.MatchString(c.Family) {
		say("family: %q is no family of templates", c.Family)
	}
	if !poolForm.MatchString(c.RunnerPool) {
		say("runner_pool: %q: want the name of the runners' resource pool", c.RunnerPool)
	}
	if c.Timeout < 0 {
		say("timeout: %s: want a time ahead", c.Timeout)
	}
	return errors.Join(errs...)
}

// source is where the pool files are.
func (c *Config) source() pools.Source {
	if c.PoolsDirectory != "" {
		return pools.Dir(c.PoolsDirectory)
	}
	return pools.Git(c.Git())
}

// PostProcess removes old versions. The artifact is always kept.
func (p *PostProcessor) PostProcess(ctx context.Context, ui packersdk.Ui, artifact packersdk.Artifact) (packersdk.Artifact, bool, bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.config.Timeout, fmt.Errorf("not done after %s: see timeout", p.config.Timeout))
	defer cancel()
	made, err := access.TemplateOf(artifact)
	if err != nil {
		return artifact, true, true, err
	}
	family := cmp.Or(p.config.Family, made.Family)
	if family == "" {
		return artifact, true, true, fmt.Errorf("artifact %s does not say which template it is: give family", artifact.Id())
	}
	if err := p.prune(ctx, ui, family, made); err != nil {
		return artifact, true, true, fmt.Errorf("prune templates of the family %s: %w", family, err)
	}
	return artifact, true, true, nil
}

func (p *PostProcessor) prune(ctx context.Context, ui packersdk.Ui, family string, made fleet.Ref) error {
	c := &p.config
	ui.Say(fmt.Sprintf("Pruning templates of the family %s, keeping %d", family, c.KeepReleases))
	set, err := c.source().Load(ctx, pools.Known{})
	if err != nil {
		return err
	}
	b, err := c.Builder()
	if err != nil {
		return err
	}
	defer b.Close()
	w, err := survey(ctx, b, c.RunnerPool, family)
	if err != nil {
		return err
	}
	w.serve(set.Desired)
	w.made = made
	return c.remove(ctx, ui, b, w)
}

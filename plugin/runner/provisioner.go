// Package runner is the provisioner dayfly-runner: it makes a GitHub Actions
// runner out of a Debian or Ubuntu guest, through any communicator. What
// happens in the guest is in the scripts of scripts/guest; this package brings
// them there, runs them one after the other, and says in one message what went
// wrong.
package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hcldec"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
)

// Provisioner is the provisioner.
type Provisioner struct {
	config Config
}

var _ packersdk.Provisioner = (*Provisioner)(nil)

// ConfigSpec implements packersdk.HCL2Speccer.
func (p *Provisioner) ConfigSpec() hcldec.ObjectSpec { return p.config.FlatMapstructure().HCL2Spec() }

// Prepare reads the configuration.
func (p *Provisioner) Prepare(raws ...any) error { return p.config.prepare(raws...) }

// what each step does, as a failure names it.
var what = map[string]string{
	"base.sh":   "prepare guest",
	"docker.sh": "install Docker",
	"runner.sh": "install runner",
	"boot.sh":   "set up boot",
}

// Provision runs the steps. It may be run again on the same guest.
func (p *Provisioner) Provision(ctx context.Context, ui packersdk.Ui, comm packersdk.Communicator, generated map[string]any) error {
	c := &p.config
	if err := c.checkFile(); err != nil {
		return err
	}
	ui.Say(fmt.Sprintf("Making a runner: actions/runner %s, Docker from %s", c.Version, c.Docker.Source))
	g, err := enter(ctx, comm)
	if err != nil {
		return err
	}
	defer g.leave()
	if err := g.upload(ctx, c.params(template(generated), time.Now())); err != nil {
		return fmt.Errorf("upload scripts: %w", err)
	}
	if err := p.sendTarball(ui, g); err != nil {
		return err
	}
	for _, step := range c.steps() {
		if err := p.step(ctx, ui, g, step); err != nil {
			return fmt.Errorf("%s: %w", what[step], err)
		}
	}
	return nil
}

func (p *Provisioner) step(ctx context.Context, ui packersdk.Ui, g *session, step string) error {
	limit := p.config.StepTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %s: see step_timeout", limit))
	defer cancel()
	return g.run(ctx, step, ui.Say)
}

func (p *Provisioner) sendTarball(ui packersdk.Ui, g *session) error {
	if p.config.File == "" {
		return nil
	}
	ui.Say("upload " + p.config.File)
	f, err := os.Open(p.config.File)
	if err != nil {
		return fmt.Errorf("read runner's tarball: %w", err)
	}
	defer f.Close()
	if err := g.comm.Upload(g.dir+"/"+tarballName, f, nil); err != nil {
		return fmt.Errorf("upload runner's tarball: %w", err)
	}
	return nil
}

// template is the template's name and version, as far as the builder says.
func template(generated map[string]any) string {
	family, _ := generated["TemplateFamily"].(string)
	version, _ := generated["TemplateVersion"].(string)
	if family == "" || version == "" || strings.HasPrefix(family, "Build_") {
		return "" // a placeholder, or another builder
	}
	return family + "@" + version
}

var errLost = errors.New("the connection to the guest was lost")

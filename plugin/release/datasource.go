//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config,DatasourceOutput

// Package release is the data source dayfly-runner-release: a version of
// actions/runner, with its address and checksum.
package release

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/hcl2helper"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/zclconf/go-cty/cty"

	"github.com/dayfly-ci/dayfly/plugin/access"
)

// Config is the configuration of the data source.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`

	// Version of the runner, `2.337.0`. Default: the one that this release of
	// the plugin pins. `latest` asks GitHub for the newest, which makes the
	// build depend on the day: write what it found into your pins.
	Version string `mapstructure:"version"`
	// Architecture: `x64` (default), `arm64` or `arm`.
	Arch string `mapstructure:"arch"`
	// sha256 of the tarball. Default: the plugin's own pin, or what the
	// release's notes on GitHub say. When it is given, or pinned, GitHub is
	// not asked.
	SHA256 string `mapstructure:"sha256"`
	// Token for the GitHub API, which allows more requests with one. Default:
	// the environment variables `PACKER_GITHUB_API_TOKEN`, then
	// `GITHUB_TOKEN`.
	Token string `mapstructure:"token"`
	// URL of the GitHub API (default `https://api.github.com`).
	APIURL string `mapstructure:"api_url"`
	// How long to ask GitHub (default `1m`).
	Timeout time.Duration `mapstructure:"timeout"`
}

// DatasourceOutput is what the data source gives.
type DatasourceOutput struct {
	// Version of the runner, `2.337.0`.
	Version string `mapstructure:"version"`
	// Where the tarball is.
	URL string `mapstructure:"url"`
	// sha256 of the tarball, in hex.
	SHA256 string `mapstructure:"sha256"`
	// Architecture: `x64`, `arm64` or `arm`.
	Arch string `mapstructure:"arch"`
	// When the release was published, in RFC 3339. Empty when GitHub was not
	// asked. GitHub stops serving a runner about two months after the next
	// release.
	PublishedAt string `mapstructure:"published_at"`
}

// Datasource is the data source.
type Datasource struct {
	config Config
}

var _ packersdk.Datasource = (*Datasource)(nil)

const latest = "latest"

// ConfigSpec implements packersdk.HCL2Speccer.
func (d *Datasource) ConfigSpec() hcldec.ObjectSpec { return d.config.FlatMapstructure().HCL2Spec() }

// OutputSpec implements packersdk.Datasource.
func (d *Datasource) OutputSpec() hcldec.ObjectSpec {
	return (&DatasourceOutput{}).FlatMapstructure().HCL2Spec()
}

// Configure reads the configuration and reports all of its errors at once.
func (d *Datasource) Configure(raws ...any) error {
	c := &d.config
	if err := config.Decode(c, &config.DecodeOpts{PluginType: "dayfly-runner-release", Interpolate: true}, raws...); err != nil {
		return err
	}
	if c.Version == "" {
		c.Version = Version
	}
	if c.Arch == "" {
		c.Arch = "x64"
	}
	if c.Token == "" {
		c.Token = os.Getenv("PACKER_GITHUB_API_TOKEN")
	}
	if c.Token == "" {
		c.Token = os.Getenv("GITHUB_TOKEN")
	}
	if c.APIURL == "" {
		c.APIURL = "https://api.github.com"
	}
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	if c.Token != "" {
		packersdk.LogSecretFilter.Set(c.Token)
	}
	return c.check()
}

func (c *Config) check() error {
	var errs []error
	say := func(format string, args ...any) {
		if access.Known(args...) {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	c.SHA256 = strings.ToLower(strings.TrimPrefix(c.SHA256, "sha256:"))
	if c.Version != latest && !ValidVersion(c.Version) {
		say("version: %q: want a version like %s, or %s", c.Version, Version, latest)
	}
	if !ValidArchitecture(c.Arch) {
		say("arch: %q: want one of %s", c.Arch, strings.Join(Architectures, ", "))
	}
	if c.SHA256 != "" && !ValidSHA256(c.SHA256) {
		say("sha256: %q: want 64 hexadecimal digits", c.SHA256)
	}
	if c.SHA256 != "" && c.Version == latest {
		say("sha256: a pin cannot be that of %q: name the version", latest)
	}
	if c.Timeout < 0 {
		say("timeout: %s: want a time ahead", c.Timeout)
	}
	if u, err := url.Parse(c.APIURL); err != nil || !slices.Contains([]string{"https", "http"}, u.Scheme) || u.Host == "" || u.User != nil {
		say("api_url: %q: want https://HOST", c.APIURL)
	} else if u.Scheme == "http" && c.Token != "" && !loopback(u.Hostname()) {
		say("api_url: %q: a token must not travel over http", c.APIURL)
	}
	return errors.Join(errs...)
}

// Execute finds the release.
func (d *Datasource) Execute() (cty.Value, error) {
	out, err := d.find()
	if err != nil {
		return cty.NullVal(cty.EmptyObject), err
	}
	return hcl2helper.HCL2ValueFromConfig(out, d.OutputSpec()), nil
}

func (d *Datasource) find() (DatasourceOutput, error) {
	c := d.config
	out := DatasourceOutput{Version: c.Version, Arch: c.Arch, SHA256: c.SHA256}
	if out.SHA256 == "" {
		out.SHA256 = Pinned(c.Version, c.Arch)
	}
	if out.SHA256 != "" {
		out.URL = URL(out.Version, out.Arch)
		return out, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	return c.ask(ctx)
}

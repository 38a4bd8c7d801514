//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config,Docker

package runner

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/dayfly-ci/dayfly/plugin/access"
	"github.com/dayfly-ci/dayfly/plugin/release"
)

// Config is the configuration of the provisioner.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`

	// Version of the runner, `2.337.0`. Default: the one that this release of
	// the plugin pins. The data source `dayfly-runner-release` knows others.
	Version string `mapstructure:"version"`
	// sha256 of the runner's tarball. Required with a version that the plugin
	// does not pin, and with `url` or `file`. A tarball with another sum ends
	// the build, and nothing of it stays in the guest.
	SHA256 string `mapstructure:"sha256"`
	// Architecture of the guest: `x64` (default), `arm64` or `arm`.
	Arch string `mapstructure:"arch"`
	// Where the guest downloads the tarball. Default: the release on GitHub.
	URL string `mapstructure:"url"`
	// The tarball on the machine that runs Packer, instead of a download.
	File string `mapstructure:"file"`

	// User that jobs run as (default `runner`). It is made if it is not
	// there, without a password; the password of root is locked.
	User string `mapstructure:"user"`
	// Let jobs use sudo without a password, as on GitHub-hosted runners
	// (default true). Note that who may use Docker is root in the container
	// without it, too.
	Sudo config.Trilean `mapstructure:"sudo"`
	// Packages of the distribution to install beside those that the runner
	// and most actions need (git, curl, jq, tar, unzip, xz, zip, zstd, sudo).
	Packages []string `mapstructure:"packages"`

	// Docker in the guest.
	Docker Docker `mapstructure:"docker"`

	// Mask units that a runner does not need, so that clones boot faster
	// (default true). False takes the masks off again.
	MaskUnits config.Trilean `mapstructure:"mask_units"`
	// Units and generators to leave alone, such as `getty.target`.
	KeepUnits []string `mapstructure:"keep_units"`
	// How long a runner may run at most before it is killed and its container
	// powers off (default `24h`). It holds even when nothing supervises the
	// container; pools have shorter timeouts of their own.
	Lifetime time.Duration `mapstructure:"lifetime"`
	// How long each step of the provisioning may take (default `20m`).
	StepTimeout time.Duration `mapstructure:"step_timeout"`

	ctx interpolate.Context
}

// Docker is how Docker is set up.
type Docker struct {
	// Where Docker comes from: `distribution` (default), `docker` for Docker's
	// own repository, or `none` for no Docker at all.
	Source string `mapstructure:"source"`
	// Version of Docker, `28.5.1`. Only with `source = "docker"`. Default:
	// the newest.
	Version string `mapstructure:"version"`
	// Storage driver: `auto` (default), `overlay2`, `fuse-overlayfs` or `vfs`.
	// `auto` tries a mount on the guest's own file system and takes overlay2
	// where it works, else fuse-overlayfs; vfs only when it is asked for. The
	// choice is proven by running containers, and made again when a clone
	// boots on a storage where it does not work.
	StorageDriver string `mapstructure:"storage_driver"`
	// Where Docker keeps its data (default `/var/lib/docker`).
	DataRoot string `mapstructure:"data_root"`
	// URL of a mirror of Docker Hub, `https://mirror.example.org`.
	RegistryMirror string `mapstructure:"registry_mirror"`
	// Size at which a container's log is rotated (default `10m`).
	LogMaxSize string `mapstructure:"log_max_size"`
	// How many files of a container's log are kept (default 3).
	LogMaxFiles int `mapstructure:"log_max_files"`
	// When dockerd starts: `socket` (default), with the first command that
	// needs it, or `boot`. Either way Docker is there for every job; through
	// the socket, jobs that do not use it do not pay for its start.
	Start string `mapstructure:"start"`
	// Docker's repository (default `https://download.docker.com/linux`), or a
	// mirror of it. Only with `source = "docker"`.
	Repository string `mapstructure:"repository"`
	// sha256 of the repository's signing key, to pin it. Only with
	// `source = "docker"`.
	RepositoryKeySHA256 string `mapstructure:"repository_key_sha256"`
}

// Forms of what ends up in the guest's files.
var (
	userForm    = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	packageForm = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?$`)
	unitForm    = regexp.MustCompile(`^[A-Za-z0-9:_.@-]+$`)
	pathForm    = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)+$`)
	sizeForm    = regexp.MustCompile(`^[1-9][0-9]{0,8}[kmg]$`)
	dockerForm  = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+$`)
)

// prepare reads the configuration and reports all of its errors at once.
func (c *Config) prepare(raws ...any) error {
	if err := config.Decode(c, &config.DecodeOpts{
		PluginType: "dayfly-runner", Interpolate: true, InterpolateContext: &c.ctx,
	}, raws...); err != nil {
		return err
	}
	c.defaults()
	var p problems
	p.runner(c)
	p.guest(c)
	p.docker(&c.Docker)
	return errors.Join(p...)
}

func (c *Config) defaults() {
	c.Version = cmp.Or(c.Version, release.Version)
	c.Arch = cmp.Or(c.Arch, "x64")
	c.SHA256 = strings.ToLower(strings.TrimPrefix(c.SHA256, "sha256:"))
	if c.SHA256 == "" && c.URL == "" && c.File == "" {
		c.SHA256 = release.Pinned(c.Version, c.Arch)
	}
	if c.URL == "" && c.File == "" {
		c.URL = release.URL(c.Version, c.Arch)
	}
	c.User = cmp.Or(c.User, "runner")
	c.Lifetime = cmp.Or(c.Lifetime, 24*time.Hour)
	c.StepTimeout = cmp.Or(c.StepTimeout, 20*time.Minute)
	d := &c.Docker
	d.Source = cmp.Or(d.Source, "distribution")
	d.StorageDriver = cmp.Or(d.StorageDriver, "auto")
	d.DataRoot = cmp.Or(d.DataRoot, "/var/lib/docker")
	d.LogMaxSize = cmp.Or(d.LogMaxSize, "10m")
	d.LogMaxFiles = cmp.Or(d.LogMaxFiles, 3)
	d.Start = cmp.Or(d.Start, "socket")
	d.RepositoryKeySHA256 = strings.ToLower(strings.TrimPrefix(d.RepositoryKeySHA256, "sha256:"))
}

// problems are what is wrong with a configuration, by field.
type problems []error

func (p *problems) unless(ok bool, field, format string, args ...any) {
	if !ok && access.Known(args...) {
		*p = append(*p, fmt.Errorf(field+": "+format, args...))
	}
}

func (p *problems) runner(c *Config) {
	p.unless(release.ValidVersion(c.Version), "version", "%q: want a version like %s", c.Version, release.Version)
	p.unless(release.ValidArchitecture(c.Arch), "arch", "%q: want one of %s", c.Arch, strings.Join(release.Architectures, ", "))
	switch {
	case c.SHA256 == "" && (c.File != "" || c.URL != release.URL(c.Version, c.Arch)):
		p.unless(false, "sha256", "required with url or file")
	case c.SHA256 == "":
		p.unless(false, "sha256", "required with version %q, which the plugin does not pin: the data source dayfly-runner-release finds it", c.Version)
	default:
		p.unless(release.ValidSHA256(c.SHA256), "sha256", "%q: want 64 hexadecimal digits", c.SHA256)
	}
	p.unless(c.URL == "" || c.File == "", "file", "give this or url")
	p.unless(c.URL == "" || plainURL(c.URL), "url", "%q: want an http or https URL without credentials", c.URL)
	if c.File != "" && access.Known(c.File) {
		info, err := os.Stat(c.File)
		p.unless(err == nil && info.Mode().IsRegular(), "file", "%q is no file that can be read", c.File)
	}
}

func (p *problems) guest(c *Config) {
	p.unless(userForm.MatchString(c.User), "user", "%q is no name of a user", c.User)
	p.unless(c.User != "root", "user", "jobs must not run as root")
	for _, name := range c.Packages {
		p.unless(packageForm.MatchString(name), "packages", "%q is no name of a package", name)
	}
	for _, name := range c.KeepUnits {
		p.unless(unitForm.MatchString(name), "keep_units", "%q is no name of a unit", name)
	}
	p.unless(c.Lifetime >= time.Minute, "lifetime", "%s: want at least a minute", c.Lifetime)
	p.unless(c.StepTimeout >= time.Second, "step_timeout", "%s: want at least a second", c.StepTimeout)
}

func (p *problems) docker(d *Docker) {
	oneOf := func(field, got string, want ...string) {
		p.unless(slices.Contains(want, got), field, "%q: want one of %s", got, strings.Join(want, ", "))
	}
	oneOf("docker.source", d.Source, "distribution", "docker", "none")
	oneOf("docker.storage_driver", d.StorageDriver, "auto", "overlay2", "fuse-overlayfs", "vfs")
	oneOf("docker.start", d.Start, "socket", "boot")
	p.unless(d.Version == "" || d.Source == "docker", "docker.version", `only with source = "docker": a distribution has one version`)
	p.unless(d.Version == "" || dockerForm.MatchString(d.Version), "docker.version", "%q: want a version like 28.5.1", d.Version)
	p.unless(d.Repository == "" || d.Source == "docker", "docker.repository", `only with source = "docker"`)
	p.unless(d.Repository == "" || plainURL(d.Repository), "docker.repository", "%q: want an http or https URL without credentials", d.Repository)
	p.unless(d.RepositoryKeySHA256 == "" || d.Source == "docker", "docker.repository_key_sha256", `only with source = "docker"`)
	p.unless(d.RepositoryKeySHA256 == "" || release.ValidSHA256(d.RepositoryKeySHA256), "docker.repository_key_sha256",
		"%q: want 64 hexadecimal digits", d.RepositoryKeySHA256)
	p.unless(pathForm.MatchString(d.DataRoot) && !strings.Contains(d.DataRoot, ".."), "docker.data_root", "%q: want an absolute path", d.DataRoot)
	p.unless(d.RegistryMirror == "" || plainURL(d.RegistryMirror), "docker.registry_mirror", "%q: want an http or https URL without credentials", d.RegistryMirror)
	p.unless(sizeForm.MatchString(d.LogMaxSize), "docker.log_max_size", "%q: want a number with k, m or g", d.LogMaxSize)
	p.unless(d.LogMaxFiles >= 1 && d.LogMaxFiles <= 100, "docker.log_max_files", "%d: want 1 to 100", d.LogMaxFiles)
}

// plainURL refuses credentials: the guest's files and the build's log would
// show them.
func plainURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil &&
		!strings.ContainsAny(s, " \t\r\n\"'\\")
}

// checkFile compares the local tarball with its pin before anything is sent.
func (c *Config) checkFile() error {
	if c.File == "" {
		return nil
	}
	f, err := os.Open(c.File)
	if err != nil {
		return fmt.Errorf("read runner's tarball: %w", err)
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return fmt.Errorf("read runner's tarball: %w", err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != c.SHA256 {
		return fmt.Errorf("runner's tarball %s has sha256 %s, want %s", c.File, got, c.SHA256)
	}
	return nil
}

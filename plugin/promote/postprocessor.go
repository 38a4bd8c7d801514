//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config

// Package promote is the post-processor dayfly-promote: it commits a template
// version that was just built to the pools repository. That commit is what
// rolls pools to the version; this package touches neither Proxmox nor the
// daemon.
package promote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

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
	access.Repository   `mapstructure:",squash"`

	// Template blocks of the pool files to set the version of. A block
	// without a version, which follows the newest one, gets it.
	Templates []string `mapstructure:"templates"`
	// Pools whose template blocks to set the version of. When neither this
	// nor `templates` is given, every block of the family that has a version
	// is set.
	Pools []string `mapstructure:"pools"`
	// Family of the template. Default: that of the artifact.
	Family string `mapstructure:"family"`
	// Version of the template. Default: that of the artifact.
	Version string `mapstructure:"version"`

	// `commit` (default) pushes to `branch`; `pull_request` pushes to a branch
	// of its own and asks for a review on GitHub.
	Mode string `mapstructure:"mode"`
	// First line of the commit's message. Default: `Promote` and the
	// template.
	CommitMessage string `mapstructure:"commit_message"`
	// Name of the commit's author (default `dayfly`).
	AuthorName string `mapstructure:"author_name"`
	// Mail address of the commit's author (default `dayfly@localhost`).
	AuthorEmail string `mapstructure:"author_email"`

	// Branch of the pull request. Default: `dayfly/promote-` and the family.
	// It is moved when it exists.
	PullRequestBranch string `mapstructure:"pull_request_branch"`
	// The repository on GitHub, `acme/pools`. Default: as in `repository`.
	GitHubRepository string `mapstructure:"github_repository"`
	// Token that may open pull requests. Default: `git_token`, then the
	// environment variable `GITHUB_TOKEN`.
	GitHubToken string `mapstructure:"github_token"`
	// URL of the GitHub API. Default: `https://api.github.com`, or that of
	// the GitHub Enterprise Server in `repository`.
	APIURL string `mapstructure:"api_url"`

	ctx interpolate.Context
}

// PostProcessor is the post-processor.
type PostProcessor struct {
	config Config
}

var _ packersdk.PostProcessor = (*PostProcessor)(nil)

// Forms of names, those of pool files and of GitHub.
var (
	familyForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	versionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$`)
	branchForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+/-]*[A-Za-z0-9]$`)
	repoForm    = regexp.MustCompile(`^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$`)
	lineForm    = regexp.MustCompile(`^[^\pC]*$`)
	emailForm   = regexp.MustCompile(`^[^\s\pC<>]+@[^\s\pC<>]+$`)
	nameForm    = regexp.MustCompile(`^[^\pC<>]+$`)
)

// ConfigSpec implements packersdk.HCL2Speccer.
func (p *PostProcessor) ConfigSpec() hcldec.ObjectSpec { return p.config.FlatMapstructure().HCL2Spec() }

// Configure reads the configuration and reports all of its errors at once.
func (p *PostProcessor) Configure(raws ...any) error {
	c := &p.config
	if err := config.Decode(c, &config.DecodeOpts{
		PluginType: "dayfly-promote", Interpolate: true, InterpolateContext: &c.ctx,
	}, raws...); err != nil {
		return err
	}
	c.Prepare()
	c.Mode = cmp.Or(c.Mode, "commit")
	c.AuthorName = cmp.Or(c.AuthorName, "dayfly")
	c.AuthorEmail = cmp.Or(c.AuthorEmail, "dayfly@localhost")
	errs := append(c.Check(), c.names()...)
	if c.Mode == "pull_request" {
		errs = append(errs, c.github()...)
	}
	return errors.Join(errs...)
}

func (c *Config) names() []error {
	var errs []error
	unless := func(ok bool, format string, args ...any) {
		if !ok && access.Known(args...) {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	unless(c.Family == "" || familyForm.MatchString(c.Family), "family: %q is no family of templates", c.Family)
	unless(c.Version == "" || versionForm.MatchString(c.Version), "version: %q is no version", c.Version)
	unless(slices.Contains([]string{"commit", "pull_request"}, c.Mode), "mode: %q: want commit or pull_request", c.Mode)
	unless(lineForm.MatchString(c.CommitMessage), "commit_message: want one line")
	unless(nameForm.MatchString(c.AuthorName), "author_name: %q is no name", c.AuthorName)
	unless(emailForm.MatchString(c.AuthorEmail), "author_email: %q is no mail address", c.AuthorEmail)
	unless(c.PullRequestBranch == "" || branchForm.MatchString(c.PullRequestBranch) && c.PullRequestBranch != c.Branch,
		"pull_request_branch: %q: want the name of another branch than %s", c.PullRequestBranch, c.Branch)
	return errs
}

// host and path of a repository, of a URL or of user@host:path.
var remote = regexp.MustCompile(`^(?:https?://|ssh://(?:[^@/]+@)?|[^@/]+@)([^/:]+)(?::[0-9]+)?[/:](.+?)(?:\.git)?/?$`)

// github fills in where the pull request goes.
func (c *Config) github() []error {
	var errs []error
	m := remote.FindStringSubmatch(c.Repository.Repository)
	if m != nil {
		c.GitHubRepository = cmp.Or(c.GitHubRepository, m[2])
		if c.APIURL == "" && m[1] != "github.com" {
			c.APIURL = "https://" + m[1] + "/api/v3"
		}
	}
	c.APIURL = cmp.Or(c.APIURL, "https://api.github.com")
	c.GitHubToken = token(c)
	if len(c.GitHubToken) >= 3 {
		packersdk.LogSecretFilter.Set(c.GitHubToken)
	}
	if !repoForm.MatchString(c.GitHubRepository) && access.Known(c.GitHubRepository, c.Repository.Repository) {
		errs = append(errs, fmt.Errorf("github_repository: %q: want OWNER/NAME", c.GitHubRepository))
	}
	if c.GitHubToken == "" {
		errs = append(errs, errors.New("github_token: required for a pull request, also as GITHUB_TOKEN"))
	}
	if u, err := url.Parse(c.APIURL); err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !loopback(u) {
		errs = append(errs, fmt.Errorf("api_url: %q: want https://HOST", c.APIURL))
	}
	return errs
}

// PostProcess commits the version. The artifact is always kept: a template
// that passed its test is not thrown away because a push failed.
func (p *PostProcessor) PostProcess(ctx context.Context, ui packersdk.Ui, artifact packersdk.Artifact) (packersdk.Artifact, bool, bool, error) {
	ref, err := p.ref(artifact)
	if err != nil {
		return artifact, true, true, err
	}
	ui.Say(fmt.Sprintf("Promoting %s in %s", ref, pools.Git(p.config.Git())))
	if err := p.promote(ctx, ui, ref, artifact); err != nil {
		return artifact, true, true, fmt.Errorf("promote %s: %w (hint: the template is there; to promote it by hand, set version = %q in the pool files)", ref, err, ref.Version)
	}
	return artifact, true, true, nil
}

// ref is which template to promote.
func (p *PostProcessor) ref(artifact packersdk.Artifact) (fleet.Ref, error) {
	ref, err := access.TemplateOf(artifact)
	if err != nil {
		return ref, err
	}
	ref = fleet.Ref{Family: cmp.Or(p.config.Family, ref.Family), Version: cmp.Or(p.config.Version, ref.Version)}
	if ref.Family == "" || ref.Version == "" {
		return ref, fmt.Errorf("artifact %s does not say which template it is: give family and version", artifact.Id())
	}
	return ref, nil
}

func (p *PostProcessor) promote(ctx context.Context, ui packersdk.Ui, ref fleet.Ref, artifact packersdk.Artifact) error {
	c := &p.config
	var last pools.Edited
	var message string
	change := func(files map[string][]byte) (map[string][]byte, string, error) {
		edited, err := pools.Promote(files, pools.Promotion{Ref: ref, Templates: c.Templates, Pools: c.Pools})
		if err != nil {
			return nil, "", err
		}
		last, message = edited, c.message(ref, edited, artifact.Id())
		return edited.Files, message, nil
	}
	branch := ""
	if c.Mode == "pull_request" {
		branch = cmp.Or(c.PullRequestBranch, "dayfly/promote-"+ref.Family)
	}
	id, made, err := c.Git().Commit(ctx, branch, pools.Author{Name: c.AuthorName, Email: c.AuthorEmail}, change)
	if err != nil {
		return err
	}
	for _, line := range told(ref, last, id, made) {
		ui.Say(line)
	}
	if !made {
		return nil
	}
	if branch == "" {
		return nil
	}
	page, err := c.propose(ctx, branch, message)
	if err != nil {
		return fmt.Errorf("commit %.12s is on branch %s: %w", id, branch, err)
	}
	ui.Say("pull request: " + page)
	return nil
}

// told says what became of the pool files, and of the template blocks that no
// commit moves.
func told(ref fleet.Ref, e pools.Edited, id string, made bool) []string {
	var lines []string
	switch {
	case made:
		lines = append(lines, fmt.Sprintf("commit %.12s sets template %s, for pools: %s", id, strings.Join(e.Templates, ", "), orNone(e.Pools)))
	case len(e.Follows)+len(e.Excludes) == 0:
		lines = append(lines, fmt.Sprintf("nothing to change at commit %.12s: pools are on %s", id, ref))
	default:
		lines = append(lines, fmt.Sprintf("nothing to change at commit %.12s", id))
	}
	if len(e.Follows) > 0 {
		lines = append(lines, fmt.Sprintf("template %s follows the newest version, and takes %s by itself if that is it", strings.Join(e.Follows, ", "), ref.Version))
	}
	if len(e.Excludes) > 0 {
		lines = append(lines, fmt.Sprintf("template %s leaves %s out, and does not take it: to have it used, change the constraint, or name the template in templates",
			strings.Join(e.Excludes, ", "), ref.Version))
	}
	return lines
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (c *Config) message(ref fleet.Ref, e pools.Edited, artifact string) string {
	return fmt.Sprintf("%s\n\nTemplates: %s\nPools: %s\nArtifact: %s\n",
		cmp.Or(c.CommitMessage, "Promote "+ref.String()), strings.Join(e.Templates, ", "), orNone(e.Pools), artifact)
}

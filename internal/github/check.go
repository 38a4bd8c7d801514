package github

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-github/v62/github"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Problem is something a person must put right, and how.
type Problem struct {
	Scope fleet.Scope // empty when it concerns all
	What  string
	Fix   string
	Err   error // what GitHub said, if it was asked and refused
}

// Summary says what is wrong, and where, but not how to put it right.
func (p Problem) Summary() string {
	text := p.What
	if p.Scope != "" {
		text = string(p.Scope) + ": " + text
	}
	if p.Err != nil {
		text += ": " + p.Err.Error()
	}
	return text
}

func (p Problem) String() string {
	if p.Fix == "" {
		return p.Summary()
	}
	return p.Summary() + ": " + p.Fix
}

// maxSkew is how wrong the clock may be: a JWT is issued a minute back.
const maxSkew = time.Minute

// Check asks GitHub whether all that dayfly will need is there: the App, its
// webhook, an installation on every scope, permissions, events, and the
// default runner group. No problem is an empty list.
func (c *Client) Check(ctx context.Context, scopes []fleet.Scope) []Problem {
	app, err := c.getApp(ctx)
	p := c.away(err)
	if p != nil && errors.Is(err, fleet.ErrUnavailable) {
		return []Problem{*p}
	}
	all := c.checkClock(ctx)
	switch {
	case p != nil:
		return append(all, *p)
	case err != nil:
		return append(all, Problem{What: "GitHub cannot be asked about the App", Err: err})
	}
	all = append(all, c.checkHook(ctx)...)
	for _, scope := range scopes {
		if err := checkScope(scope); err != nil {
			all = append(all, Problem{Scope: scope, What: "it cannot be a scope", Err: err})
			continue
		}
		all = append(all, c.checkInstallation(ctx, app, scope)...)
	}
	return all
}

func (c *Client) getApp(ctx context.Context) (app *github.App, err error) {
	err = c.asApp(ctx, admin, func(ctx context.Context) (err error) {
		app, _, err = c.gh.Apps.Get(ctx, "")
		return err
	})
	return app, err
}

// Away asks whether GitHub serves this App at all; nil: it does, or only a rate
// limit keeps it from saying so.
func (c *Client) Away(ctx context.Context) *Problem {
	_, err := c.getApp(ctx)
	return c.away(err)
}

// away tells a GitHub that cannot be reached from one that is out of order, and
// both from one that refuses the App.
func (c *Client) away(err error) *Problem {
	var answer *Error
	var limit *fleet.RateLimit
	switch {
	case errors.As(err, &limit):
		return nil
	case errors.As(err, &answer) && !errors.Is(err, fleet.ErrUnavailable):
		return &Problem{What: "GitHub does not accept the App", Err: err, Fix: "check the App id, and that the key is one of this App's"}
	case !errors.Is(err, fleet.ErrUnavailable):
		return nil
	case errors.As(err, &answer):
		return &Problem{What: "GitHub is out of order", Err: err, Fix: "see https://www.githubstatus.com; dayfly goes on by itself once it works again"}
	}
	if distrusted(err) {
		return &Problem{
			What: "GitHub's certificate is not trusted", Err: err,
			Fix: fmt.Sprintf("add the CA of %s to those of this host (\"update-ca-certificates\" on Debian), and see that its clock is right; then restart dayfly", c.gh.BaseURL.Host),
		}
	}
	return &Problem{
		What: "GitHub is out of reach", Err: err,
		Fix: fmt.Sprintf("check that this host reaches %s (name service, firewall, proxy); dayfly goes on by itself once it answers", c.gh.BaseURL.Host),
	}
}

func (c *Client) checkClock(ctx context.Context) []Problem {
	skew := c.Clock(ctx)
	if skew.Abs() <= maxSkew {
		return nil
	}
	side := "behind"
	if skew < 0 {
		side = "ahead of"
	}
	return []Problem{{
		What: fmt.Sprintf("the clock of this host is %v %s GitHub's", skew.Abs().Round(time.Second), side),
		Fix:  "enable time synchronisation (timedatectl set-ntp true); runners refuse to work with a clock off by five minutes",
	}}
}

// checkHook looks at the App's webhook. An App without one works by polling.
func (c *Client) checkHook(ctx context.Context) []Problem {
	var hook *github.HookConfig
	err := c.asApp(ctx, admin, func(ctx context.Context) (err error) {
		hook, _, err = c.gh.Apps.GetHookConfig(ctx)
		return err
	})
	if err != nil || hook.GetURL() == "" {
		return nil
	}
	var all []Problem
	if hook.GetContentType() != "json" {
		all = append(all, Problem{What: "the App's webhook sends forms", Fix: "set its content type to application/json"})
	}
	if hook.GetSecret() == "" {
		all = append(all, Problem{What: "the App's webhook has no secret", Fix: "set one, and the same in dayfly's configuration"})
	}
	if hook.GetInsecureSSL() == "1" {
		all = append(all, Problem{What: "the App's webhook does not verify our certificate", Fix: "enable SSL verification"})
	}
	return all
}

func (c *Client) checkInstallation(ctx context.Context, app *github.App, scope fleet.Scope) []Problem {
	found, err := c.findInstallation(ctx, scope)
	switch {
	case gone(err):
		return []Problem{{
			Scope: scope, What: "the App is not installed on it",
			Fix: fmt.Sprintf("open https://github.com/apps/%s/installations/new", app.GetSlug()),
		}}
	case err != nil:
		return []Problem{{Scope: scope, What: "cannot look for the App's installation", Err: err}}
	case found.SuspendedAt != nil:
		return []Problem{{Scope: scope, What: "the App's installation is suspended", Fix: "unsuspend it at " + found.GetHTMLURL()}}
	}
	all := checkGrants(app, found, scope)
	if len(all) == 0 && !scope.Repo() {
		all = c.CheckGroup(ctx, scope, "")
	}
	return all
}

// checkGrants compares what the installation grants with what is needed. What
// the App asks for and the installation does not grant waits for acceptance.
func checkGrants(app *github.App, inst *github.Installation, scope fleet.Scope) []Problem {
	var all []Problem
	for _, n := range []need{runners(scope), readJobs} {
		if n.granted(inst.Permissions) {
			continue
		}
		fix := "grant it in the App's settings, then accept it at " + inst.GetHTMLURL()
		if n.granted(app.Permissions) {
			fix = "accept the App's new permissions at " + inst.GetHTMLURL()
		}
		all = append(all, Problem{Scope: scope, What: "the App's installation lacks the permission " + n.words(), Fix: fix})
	}
	if !slices.Contains(inst.Events, "workflow_job") {
		all = append(all, Problem{
			Scope: scope, What: "the App does not subscribe to workflow_job, so jobs are found by polling only",
			Fix: "tick \"Workflow job\" in the App's event settings",
		})
	}
	return all
}

// words names the permission as GitHub's API does.
func (n need) words() string {
	switch n {
	case orgRunners:
		return "organization_self_hosted_runners: write"
	case repoRunners:
		return "administration: write"
	case readContents:
		return "contents: read"
	case writeStatuses:
		return "statuses: write"
	case writeChecks:
		return "checks: write"
	case writeJobs:
		return "actions: write"
	default:
		return "actions: read"
	}
}

func (n need) granted(p *github.InstallationPermissions) bool {
	switch n {
	case orgRunners:
		return p.GetOrganizationSelfHostedRunners() == "write"
	case repoRunners:
		return p.GetAdministration() == "write"
	case readContents:
		return p.GetContents() == "read" || p.GetContents() == "write"
	case writeStatuses:
		return p.GetStatuses() == "write"
	case writeChecks:
		return p.GetChecks() == "write"
	case writeJobs:
		return p.GetActions() == "write"
	default:
		return p.GetActions() == "read" || p.GetActions() == "write"
	}
}

// CheckRerun asks whether the App may run the jobs of scope's repositories
// again.
func (c *Client) CheckRerun(ctx context.Context, scope fleet.Scope) []Problem {
	found, err := c.findInstallation(ctx, scope)
	if err != nil || writeJobs.granted(found.Permissions) {
		return nil // Check tells of an installation that is not there
	}
	return []Problem{{
		Scope: scope, What: "the App's installation lacks the permission " + writeJobs.words() + ": lost jobs are not run again",
		Fix: "grant it in the App's settings, then accept it at " + found.GetHTMLURL() + ", or remove lost_jobs from the pool",
	}}
}

// CheckGroup asks whether the jobs of an organisation's repositories can reach
// a runner group (empty is the default one): GitHub queues those that cannot
// for ever, without a word.
func (c *Client) CheckGroup(ctx context.Context, scope fleet.Scope, name string) []Problem {
	groups, err := c.listGroups(ctx, scope)
	if err != nil {
		return []Problem{{Scope: scope, What: "cannot list runner groups", Err: err}}
	}
	i := slices.IndexFunc(groups, func(g *github.RunnerGroup) bool {
		return name == "" && g.GetDefault() || name != "" && strings.EqualFold(g.GetName(), name)
	})
	if i < 0 {
		return []Problem{{
			Scope: scope, What: fmt.Sprintf("there is no runner group %q, only %s", name, groupNames(groups)),
			Fix: "create it in the organisation's Actions settings, or name another in the pool",
		}}
	}
	g := groups[i]
	var all []Problem
	if g.GetRestrictedToWorkflows() {
		all = append(all, Problem{
			Scope: scope, What: fmt.Sprintf("runner group %q is restricted to some workflows; jobs of others wait for ever", g.GetName()),
			Fix: "see that the pool's jobs are among them",
		})
	}
	if public := c.publicRepos(ctx, scope); len(public) > 0 && !g.GetAllowsPublicRepositories() {
		all = append(all, Problem{
			Scope: scope, What: fmt.Sprintf("runner group %q does not allow public repositories; jobs of %s wait for ever", g.GetName(), some(public)),
			Fix: "allow them in the group's settings (anyone may then run code on the runners by a pull request), or keep their jobs on GitHub's runners",
		})
	}
	return all
}

func (c *Client) publicRepos(ctx context.Context, scope fleet.Scope) []string {
	found, err := c.repositories(ctx, scope)
	if err != nil {
		return nil
	}
	var names []string
	for _, r := range found {
		if !r.GetPrivate() && !r.GetArchived() {
			names = append(names, r.GetFullName())
		}
	}
	return names
}

func some(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

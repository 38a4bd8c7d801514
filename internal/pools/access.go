package pools

import (
	"path"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

type accessBlock struct {
	Repos     *hcl.Attribute `hcl:"repos,optional" type:"list of 1 to 100 patterns" unset:"all of the organisation or repository" example:"[\"acme/app\", \"acme/lib-*\"]" doc:"Repositories whose jobs the pool runs. An asterisk stands for everything but a slash."`
	Workflows *hcl.Attribute `hcl:"workflows,optional" type:"list of 1 to 100 patterns" unset:"all" example:"[\"ci.yml\", \"release-*.yml@main\"]" doc:"Files of the workflows, in .github/workflows or with their path, and after an @ the branches."`
	Events    *hcl.Attribute `hcl:"events,optional" type:"list of 1 to 100 texts" unset:"all" example:"[\"push\", \"workflow_dispatch\"]" doc:"Events that started the run. Of pull_request_target the head may be a fork's, and counts as such."`
	Public    *hcl.Attribute `hcl:"public,optional" type:"true or false" default:"false" example:"false" doc:"Jobs of public repositories. Whoever can read such a repository can propose code for it."`
	Forks     *hcl.Attribute `hcl:"forks,optional" type:"true or false" default:"false" example:"false" doc:"Jobs whose code is a fork's, as in a pull request of a stranger."`
}

const maxPatterns = 100

var (
	repoPattern     = regexp.MustCompile(`^[A-Za-z0-9_*?.-]{1,60}/[A-Za-z0-9_*?.-]{1,100}$`)
	workflowPattern = regexp.MustCompile(`^[A-Za-z0-9_*?./ -]{1,200}(@[A-Za-z0-9_*?./-]{1,200})?$`)
	eventForm       = regexp.MustCompile(`^[a-z][a-z_-]{0,49}$`)
)

// events are those that start a run (docs.github.com, "Events that trigger
// workflows"; "dynamic" is of GitHub's own, as Dependabot's).
var events = strings.Fields(`branch_protection_rule check_run check_suite create delete deployment deployment_status
	discussion discussion_comment dynamic fork gollum image_version issue_comment issues label merge_group milestone
	page_build project project_card project_column public pull_request pull_request_review pull_request_review_comment
	pull_request_target push registry_package release repository_dispatch schedule status watch workflow_call
	workflow_dispatch workflow_run`)

func (r *reader) access(b *accessBlock, scope fleet.Scope) fleet.Access {
	a := fleet.Access{
		Repos:     texts(r.list(b.Repos, maxPatterns, repoPattern, `A repository such as "acme/app", or a pattern such as "acme/*"`)),
		Workflows: texts(r.list(b.Workflows, maxPatterns, workflowPattern, `The file of a workflow, such as "ci.yml" or "*.yml@main"`)),
		Events:    texts(r.list(b.Events, maxPatterns, eventForm, `An event such as "push"`)),
		Public:    r.flag(b.Public),
		Forks:     r.flag(b.Forks),
	}
	known := map[string]bool{}
	for _, e := range events {
		known[e] = true
	}
	for i, e := range a.Events {
		if !known[e] {
			r.refuse(b.Events, elementRange(b.Events.Expr, i), "%q is no event that starts a run.%s", e, nearest(e, known))
		}
	}
	for i, pattern := range a.Repos {
		if scope != "" && !reaches(scope, pattern) {
			at := elementRange(b.Repos.Expr, i)
			r.report(caution(&at, "Out of reach", "No repository of %s is like %q, and the pool's runners register there.", scope, pattern))
		}
	}
	return a
}

// reaches reports whether a pattern of repositories fits one of the scope's.
func reaches(scope fleet.Scope, pattern string) bool {
	owner, repo, _ := strings.Cut(strings.ToLower(pattern), "/")
	fits, _ := path.Match(owner, strings.ToLower(scope.Owner()))
	if fits && scope.Repo() {
		_, name, _ := strings.Cut(strings.ToLower(string(scope)), "/")
		fits, _ = path.Match(repo, name)
	}
	return fits
}

package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/fleet"
)

func (p *program) explainCommand() *cobra.Command {
	return p.asks(p.reads(&cobra.Command{
		Use:   "explain JOB",
		Short: "say why a job is queued, or what became of it",
		Long: `Say why a job is queued, or what became of it, and show its timeline.

JOB is a job's number, or its page's address at GitHub.`,
		Example: "  dayfly explain 31234567890\n  dayfly explain https://github.com/acme/app/actions/runs/11111/job/31234567890",
		Args:    takes("JOB"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseJob(args[0])
			if err != nil {
				return hinted{usageError{err}, `"dayfly jobs" lists jobs with their numbers`}
			}
			job, err := daemon.Dial(p.socket).Job(cmd.Context(), id)
			if errors.Is(err, fleet.ErrNotFound) {
				return hinted{fmt.Errorf("explain job %d: the daemon has not heard of it", id),
					`"dayfly sync" looks for queued jobs now; a job of a repository that no pool serves is never ours`}
			}
			if err != nil {
				return err
			}
			if p.json {
				return writeJSON(p.out, job)
			}
			return p.printJob(job, time.Now())
		},
	}))
}

// inAddress finds the job's number in the path of its page or of the API.
var inAddress = regexp.MustCompile(`/actions/(?:runs/[^/]+/job|jobs)/([^/]+)`)

// parseJob reads a job's number, alone or at the end of the address of its
// page (…/actions/runs/RUN/job/JOB) or of the API (…/actions/jobs/JOB).
func parseJob(s string) (fleet.JobID, error) {
	number := s
	if strings.Contains(s, "/") {
		u, err := url.Parse(s)
		if err != nil {
			return 0, fmt.Errorf("job address %q: not a URL", s)
		}
		found := inAddress.FindStringSubmatch(u.Path)
		if found == nil {
			return 0, fmt.Errorf("job address %q: it names no job: want …/actions/runs/RUN/job/JOB", s)
		}
		number = found[1]
	}
	id, err := strconv.ParseInt(number, 10, 64)
	if err != nil || id <= 0 {
		return 0, fmt.Errorf("job %q: want a job's number or its page's address", s)
	}
	return fleet.JobID(id), nil
}

func (p *program) printJob(job daemon.JobDetail, now time.Time) error {
	style := styleOf(p.out)
	fmt.Fprintf(p.out, "%s\n", style.bold(fmt.Sprintf("job %d, %s of %s", job.ID, strconv.Quote(job.Name), job.Repo)))
	facts := []struct{ name, text string }{
		{"status", strings.TrimSuffix(state(job.JobStatus)+" for "+lasted(job.JobStatus, now), " for ")},
		{"labels", strings.Join(job.Labels, " ")},
		{"runner", job.Runner},
		{"page", job.URL},
	}
	for _, f := range facts {
		if f.text != "" {
			fmt.Fprintf(p.out, "  %-7s %s\n", f.name, f.text)
		}
	}
	fmt.Fprintf(p.out, "\n%s\n", cmp.Or(job.Explanation, "there is nothing more to say"))
	if len(job.Timeline) == 0 {
		return nil
	}
	fmt.Fprintln(p.out)
	t := newTable("at", "after", "what", "runner", "detail")
	before := job.Timeline[0].At
	for _, e := range job.Timeline {
		t.row(e.At.Local().Format(time.TimeOnly), "+"+took(e.At.Sub(before)), e.What, e.Runner, e.Detail)
		before = e.At
	}
	return t.write(p.out, style)
}

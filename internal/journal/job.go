package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Record merges what a poll saw at a time into the jobs and returns how many
// of them changed. What says nothing new costs no transaction, so that polling
// an idle GitHub writes nothing.
func (j *Journal) Record(ctx context.Context, source string, at time.Time, jobs []fleet.Job) (changed int, err error) {
	news := slices.DeleteFunc(slices.Clone(jobs), j.open.knows)
	for chunk := range slices.Chunk(news, maxBatch) {
		n := 0
		err := j.write(ctx, urgent, "record jobs", func(t *tx) error {
			n = 0
			for _, job := range chunk {
				fresh, err := t.merge(job, source, at)
				if err != nil {
					return err
				}
				if fresh {
					n++
				}
			}
			return nil
		})
		if err != nil {
			return changed, err
		}
		changed += n
	}
	return changed, nil
}

// merge adds one observation to the jobs and writes the events it brings.
func (t *tx) merge(seen fleet.Job, source string, at time.Time) (changed bool, err error) {
	if seen.ID == 0 {
		return false, errors.New("job without an id")
	}
	found, err := scanJobs(context.Background(), t.session, jobQuery, int64(seen.ID))
	if err != nil {
		return false, err
	}
	old := fleet.Job{}
	if len(found) > 0 {
		old = found[0]
	}
	job, changed := old.Merge(stored(seen))
	if !changed {
		return false, nil
	}
	if err := t.saveJob(job, at); err != nil {
		return false, err
	}
	t.jobs = append(t.jobs, job)
	return true, t.note(steps(old, job, source, at)...)
}

// stored is the job as it will be read back: times in UTC, a list of labels
// that nobody else holds.
func stored(job fleet.Job) fleet.Job {
	job.Created, job.Started, job.Ended = moment(nano(job.Created)), moment(nano(job.Started)), moment(nano(job.Ended))
	job.Labels = slices.Clip(slices.Clone(job.Labels))
	return job
}

const jobColumns = `id, repo, run, attempt, name, workflow, url, labels, status, conclusion, runner, created, started, ended, origin`

const (
	jobQuery      = `SELECT ` + jobColumns + ` FROM jobs WHERE id = ?`
	openJobsQuery = `SELECT ` + jobColumns + ` FROM jobs WHERE status <> 'completed'`
	jobsQuery     = `SELECT ` + jobColumns + ` FROM jobs
		WHERE (?1 = '' OR instr(?1, ' ' || status || ' ')) AND (?2 = '' OR repo = ?2 COLLATE NOCASE) AND changed >= ?3
		ORDER BY id DESC LIMIT ?4`
)

var saveJob = upsert("jobs", jobColumns+", changed")

func (t *tx) saveJob(j fleet.Job, at time.Time) error {
	labels, err := json.Marshal(j.Labels)
	if err != nil {
		return err
	}
	origin, err := json.Marshal(j.Origin)
	if err != nil {
		return err
	}
	_, err = t.exec(saveJob,
		int64(j.ID), j.Repo, j.Run, j.Attempt, j.Name, j.Workflow, j.URL, string(labels), j.Status.String(),
		j.Conclusion, j.Runner, nano(j.Created), nano(j.Started), nano(j.Ended), string(origin), nano(t.or(at)))
	return err
}

func scanJobs(ctx context.Context, s *session, query string, args ...any) ([]fleet.Job, error) {
	var jobs []fleet.Job
	err := s.each(ctx, func(r scanner) error {
		job, err := scanJob(r)
		jobs = append(jobs, job)
		return err
	}, query, args...)
	return jobs, err
}

func scanJob(r scanner) (j fleet.Job, err error) {
	var labels, status, origin string
	var created, started, ended int64
	if err := r.Scan(&j.ID, &j.Repo, &j.Run, &j.Attempt, &j.Name, &j.Workflow, &j.URL, &labels, &status,
		&j.Conclusion, &j.Runner, &created, &started, &ended, &origin); err != nil {
		return j, err
	}
	j.Created, j.Started, j.Ended = moment(created), moment(started), moment(ended)
	j.Status, _ = fleet.ParseStatus(status)
	if err := json.Unmarshal([]byte(labels), &j.Labels); err != nil {
		return j, fmt.Errorf("labels of job %d: %w", j.ID, err)
	}
	if err := json.Unmarshal([]byte(origin), &j.Origin); err != nil {
		return j, fmt.Errorf("origin of job %d: %w", j.ID, err)
	}
	return j, nil
}

// Job returns what is known of a job, and whether anything is.
func (j *Journal) Job(ctx context.Context, id fleet.JobID) (job fleet.Job, known bool, err error) {
	err = j.read("read job", func(r *session) error {
		jobs, err := scanJobs(ctx, r, jobQuery, int64(id))
		if len(jobs) > 0 {
			job, known = jobs[0], true
		}
		return err
	})
	return job, known, err
}

// Query selects jobs. Zero fields select all.
type Query struct {
	Status []fleet.Status
	Repo   string    // "acme/app", without regard to case
	Since  time.Time // something new was heard of it then or later
	Limit  int       // 1,000 if zero
}

// Jobs returns the jobs that match, newest first.
func (j *Journal) Jobs(ctx context.Context, q Query) (jobs []fleet.Job, err error) {
	status := ""
	for _, s := range q.Status {
		status += " " + s.String() + " "
	}
	if q.Limit <= 0 {
		q.Limit = 1000
	}
	err = j.read("read jobs", func(r *session) error {
		jobs, err = scanJobs(ctx, r, jobsQuery, status, q.Repo, nano(q.Since), q.Limit)
		return err
	})
	return jobs, err
}

package main

import (
	"bytes"
	"testing"
)

// goodDay is a day that ended as it must.
var goodDay = demoSummary{
	Seed: 1, JobsQueued: 40, JobsServed: 38, JobsCancelled: 2, Runners: 36, RolledOut: 1, RolledBack: 1, CommitsRefused: 2,
	Latency: map[string]percentiles{"queued_to_running": {1200.4, 9000.6}, "restart_to_running": {900, 1800}},
}

const goodTable = `
jobs  served  cancelled  runners  containers left  registrations left  live jobs killed
40    38      2          36       0                0                   0

versions rolled out  rolled back  commits refused
1                    1            2

stage               p50 ms  p99 ms
queued_to_running   1200    9001
restart_to_running  900     1800
`

func TestSummaryIsATableAndAVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*demoSummary)
		good   bool
		more   string // printed after the table; of counts that changed nothing is said here
	}{
		"as it must be":          {func(*demoSummary) {}, true, ""},
		"a job was not served":   {func(s *demoSummary) { s.JobsQueued, s.pending = 41, 1 }, false, "jobs: 0 jobs lost, 1 not ended\n"},
		"a job was lost":         {func(s *demoSummary) { s.JobsQueued, s.lost = 41, 1 }, false, "jobs: 1 jobs lost, 0 not ended\n"},
		"a container is left":    {func(s *demoSummary) { s.ContainersLeft, s.left = 1, []string{"container 20001"} }, false, "left: container 20001\n"},
		"a registration is left": {func(s *demoSummary) { s.RegistrationsLeft, s.left = 1, []string{"registration a"} }, false, "left: registration a\n"},
		"a live job was killed":  {func(s *demoSummary) { s.LiveJobsKilled = 1 }, false, ""},
		"a promise was broken":   {func(s *demoSummary) { s.violations = []string{"a secret"} }, false, "broken promise: a secret\n"},
	} {
		s := goodDay
		c.change(&s)
		if s.good() != c.good {
			t.Errorf("%s: the day is good: %t", name, s.good())
		}
		var b bytes.Buffer
		d := &demo{p: &program{out: &b}, teller: newTeller(&b, false)}
		if err := d.printSummary(s); err != nil {
			t.Fatal(err)
		}
		if c.good && b.String() != goodTable {
			t.Errorf("%s: got\n%s\nwant\n%s", name, b.String(), goodTable)
		}
		if !bytes.HasSuffix(b.Bytes(), []byte("1800\n"+c.more)) {
			t.Errorf("%s: got\n%s\nwant at its end %q", name, b.String(), c.more)
		}
	}
}

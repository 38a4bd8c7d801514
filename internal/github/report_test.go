package github

import (
	"errors"
	"strings"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

func TestReportsStandBesideTheCommit(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		sha := strings.Repeat("ab", 20)
		status := CommitStatus{Commit: sha, Context: "dayfly/pools", State: StateFailure, Text: strings.Repeat("ä", 200)}
		check := CheckRun{Commit: sha, Name: "dayfly/plan", Conclusion: "failure", Title: "1 error", Summary: strings.Repeat("x", 70_000)}
		for i := range 60 {
			check.Notes = append(check.Notes, Note{Path: "pools/a.hcl", Line: i + 1, EndLine: i + 1 + i%2, Column: 3, EndColumn: 9, Warning: i == 0, Title: "Invalid max", Text: "A number."})
		}
		if err := f.c.PostStatus(t.Context(), "acme/app", status); !errors.Is(err, fleet.ErrDenied) || !strings.Contains(err.Error(), "statuses: write") {
			t.Errorf("status, not granted: got %v, want ErrDenied and the permission", err)
		}
		if err := f.c.PostCheck(t.Context(), "acme/app", check); !errors.Is(err, fleet.ErrDenied) || !strings.Contains(err.Error(), "checks: write") {
			t.Errorf("check, not granted: got %v, want ErrDenied and the permission", err)
		}
		f.hub.Grant(f.in, hub.Permissions{"metadata": "read", "statuses": "write", "checks": "write"})
		if err := errors.Join(f.c.PostStatus(t.Context(), "acme/app", status), f.c.PostCheck(t.Context(), "acme/app", check)); err != nil {
			t.Fatal(err)
		}
		told := f.hub.Told()
		if len(told) != 2 || told[0].State != "failure" || told[0].Name != "dayfly/pools" || !strings.HasSuffix(told[0].Text, "…") {
			t.Fatalf("got %+v", told)
		}
		if got := told[1]; got.Commit != sha || len(got.Notes) != 50 || got.Notes[0].Level != "warning" || got.Notes[0].StartColumn != 3 || got.Notes[1].StartColumn != 0 || got.Notes[1].Level != "failure" {
			t.Errorf("got check %+v", got)
		}
		for _, repo := range []string{"acme", "other/x"} {
			if err := f.c.PostStatus(t.Context(), repo, status); err == nil {
				t.Errorf("%s: a status was set", repo)
			}
		}
	})
}

func TestPullRequestsWithNewCommits(t *testing.T) {
	body := func(action, head string) []byte {
		return []byte(`{"action":"` + action + `","number":7,"repository":{"full_name":"acme/pools"},"pull_request":{"head":{"sha":"abc","repo":` + head + `}}}`)
	}
	for _, tt := range []struct {
		action, head string
		want         *Pull
	}{
		{"opened", `{"full_name":"Acme/pools"}`, &Pull{7, "abc", false}},
		{"synchronize", `{"full_name":"eve/pools"}`, &Pull{7, "abc", true}},
		{"reopened", `null`, &Pull{7, "abc", true}},
		{"labeled", `{"full_name":"acme/pools"}`, nil},
		{"opened", `"nonsense"`, nil},
	} {
		d, err := parseDelivery("guid", "pull_request", body(tt.action, tt.head))
		if err != nil || (d.Pull == nil) != (tt.want == nil) || d.Pull != nil && *d.Pull != *tt.want {
			t.Errorf("%s of %s: got %+v, %v, want %+v", tt.action, tt.head, d.Pull, err, tt.want)
		}
	}
}

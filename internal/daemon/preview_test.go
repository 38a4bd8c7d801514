package daemon_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dayfly-ci/dayfly/internal/daemon"
)

// preview asks what a proposal would mean.
func (p *play) preview(v any) (daemon.Preview, int) {
	p.t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		p.t.Fatal(err)
	}
	w := httptest.NewRecorder()
	p.now.d.Admin().ServeHTTP(w, httptest.NewRequest("POST", "/v1/preview", strings.NewReader(string(body))))
	var out daemon.Preview
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			p.t.Fatal(err)
		}
	}
	return out, w.Code
}

func files(text string) daemon.Proposal {
	return daemon.Proposal{Files: map[string][]byte{"pools.hcl": []byte(text)}}
}

func TestPreviewSaysWhatPoolsWouldMeanAndChangesNothing(t *testing.T) {
	story(t, usual, spares(4, 1), func(p *play) {
		p.until(time.Minute, "a spare", func() bool { return len(p.containers()) == 1 })
		before := p.status()
		if got, _ := p.preview(files(spares(4, 1))); !got.Empty() || !got.Report.Valid || got.InForce != before.Revision {
			p.t.Errorf("the pools in force: got %+v, want nothing", got)
		}
		got, _ := p.preview(files(spares(5, 3)))
		if len(got.Pools) != 1 || len(got.Pools[0].Fields) != 2 || got.Pools[0].Runners["spare"] != 1 {
			p.t.Errorf("more spares: got %+v", got)
		}
		if len(got.Actions) != 1 || got.Actions[0].Kind != "clone" { // one replica, one clone at a time
			p.t.Errorf("more spares: got actions %+v, want a clone", got.Actions)
		}
		got, _ = p.preview(files(strings.ReplaceAll(spares(4, 1), `pool "linux"`, `pool "other"`)))
		if len(got.Pools) != 2 || got.Pools[0].Change != "removed" || got.Pools[1].Change != "added" {
			p.t.Errorf("another name: got %+v", got.Pools)
		}
		if got.Needs != "" {
			p.t.Errorf("pools of a folder need %q", got.Needs)
		}
		destroys := 0
		for _, a := range got.Actions {
			if a.Kind == "destroy" && a.Reason == "pool linux is gone" {
				destroys++
			}
		}
		if destroys != 1 {
			p.t.Errorf("another name: got actions %+v, want the spare destroyed", got.Actions)
		}
		got, _ = p.preview(files("pool {"))
		if got.Report.Valid || len(got.Report.Diagnostics) != 1 || got.Report.Diagnostics[0].Range.Start.Line != 1 || !got.Empty() {
			p.t.Errorf("bad files: got %+v", got)
		}
		for name, bad := range map[string]any{
			"neither": daemon.Proposal{}, "both": daemon.Proposal{Revision: "main", Files: files("").Files},
			"no object": "x", "a folder's revision": daemon.Proposal{Revision: "main"},
			"too large": daemon.Proposal{Revision: strings.Repeat("x", 5<<20)},
		} {
			if _, code := p.preview(bad); code != http.StatusBadRequest {
				p.t.Errorf("%s: got %d, want 400", name, code)
			}
		}
		time.Sleep(time.Minute)
		if after := p.status(); after.Revision != before.Revision || len(p.containers()) != 1 {
			p.t.Errorf("after previews: revision %s, containers %v", after.Revision, p.containers())
		}
	})
}

// TestPreviewSaysWhatNoPoolShows: bounds of all pools together, and a template
// block that no pool uses, are in the plan and at the pull request.
func TestPreviewSaysWhatNoPoolShows(t *testing.T) {
	told(t, all(), func(p *play, c *commits) {
		bounds := one(4) + "limits {\n max = 3\n node_tasks = 9\n}\n"
		got, _ := p.preview(files(bounds))
		want := []daemon.FieldChange{{"max", "no limit", "3", "at once"}, {"node_tasks", "8", "9", "at once"}}
		if diff := cmp.Diff(want, got.Limits); diff != "" || got.Empty() || len(got.Pools)+len(got.Templates)+len(got.Actions) != 0 {
			p.t.Errorf("limits: got %+v\n%s", got, diff)
		}
		spare := one(4) + "template \"gpu\" { family = \"gpu\" }\n"
		got, _ = p.preview(files(spare))
		added := []daemon.TemplateChange{{Template: "gpu", Change: "added", Fields: []daemon.FieldChange{}, Pools: []string{}}}
		if diff := cmp.Diff(added, got.Templates); diff != "" || got.Empty() || len(got.Pools)+len(got.Limits) != 0 {
			p.t.Errorf("a template that no pool uses: got %+v\n%s", got, diff)
		}
		kept := strings.Replace(one(4), `{ family = "ubuntu-24.04" }`, "{\n family = \"ubuntu-24.04\"\n keep = 7\n}", 1)
		got, _ = p.preview(files(kept))
		keep := []daemon.TemplateChange{{Template: "ubuntu", Change: "changed", Fields: []daemon.FieldChange{{"keep", "3", "7", "at once"}}, Pools: []string{"linux"}}}
		if diff := cmp.Diff(keep, got.Templates); diff != "" || len(got.Pools) != 1 {
			p.t.Errorf("a template that keeps more: got %+v\n%s", got, diff)
		}
		got, _ = p.preview(files(strings.Replace(one(4), `pool "linux"`, `pool "other"`, 1)))
		if !strings.Contains(got.Needs, "takes away 1 of 1 pools: linux.") || !strings.Contains(got.Needs, `"Dayfly-Remove-Pools: 1"`) {
			p.t.Errorf("all pools are gone: the commit needs %q", got.Needs)
		}
		id := c.put(bounds+"template \"gpu\" { family = \"gpu\" }\n", "refs/heads/topic")
		p.event("push", fmt.Sprintf(`{"ref":"refs/heads/topic","after":%q,"repository":{"full_name":"acme/pools"}}`, id))
		time.Sleep(2 * time.Second)
		summary := p.lastTold("dayfly/plan").Summary
		for _, line := range []string{
			"- limits of all pools together are changed\n  - `max`: `no limit` → `3`, at once\n  - `node_tasks`: `8` → `9`, at once\n",
			"- template `gpu` is added: no pool uses it\n",
		} {
			if !strings.Contains(summary, line) {
				p.t.Errorf("the pull request is told %q, want %q in it", summary, line)
			}
		}
	})
}

package daemon_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

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

package daemon_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/pools"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// commits is a source whose revisions are commits, as those of git are: real
// git servers are package pools' affair, and do not work in a bubble.
type commits struct {
	mu  sync.Mutex
	tip string
	all map[string]string // text of the pools by commit or reference
}

func (c *commits) String() string { return "git of a test" }

func (c *commits) put(text string, also ...string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := fmt.Sprintf("%040x", len(c.all)+1)
	c.all[id] = text
	for _, name := range also {
		c.all[name] = id
	}
	return id
}

func (c *commits) move(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tip = id
}

func (c *commits) Load(ctx context.Context, known pools.Known) (pools.Set, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tip == known.Read {
		return pools.Set{}, pools.ErrUnchanged
	}
	return c.read(c.tip)
}

func (c *commits) At(_ context.Context, revision string) (pools.Set, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id := c.all[revision]; c.all[id] != "" {
		revision = id
	}
	return c.read(revision)
}

func (c *commits) read(id string) (pools.Set, error) {
	if c.all[id] == "" {
		return pools.Set{}, fleet.ErrNotFound
	}
	files := map[string][]byte{"linux.hcl": []byte(c.all[id])}
	desired, diags := pools.Parse(files)
	if diags.HasErrors() {
		return pools.Set{}, &pools.Invalid{Revision: id, Diagnostics: diags}
	}
	return pools.Set{Desired: desired, Origin: c.String(), Revision: id, Files: files, Signer: "jane"}, nil
}

func (c *commits) Concerns(repo, ref string) bool {
	return repo == "acme/pools" && (ref == "" || ref == "refs/heads/main")
}

// told plays with pools that come from a repository at GitHub.
func told(t *testing.T, granted hub.Permissions, tell func(*play, *commits)) {
	t.Helper()
	story(t, usual, one(4), func(p *play) {
		p.stop()
		p.w.GitHub.ChangeRepositories(p.in, []string{"pools"}, nil)
		for name, level := range hub.DefaultPermissions() {
			granted[name] = level
		}
		p.w.GitHub.Grant(p.in, granted)
		c := &commits{all: map[string]string{}}
		c.move(c.put(one(4)))
		p.source = c
		p.start()
		time.Sleep(10 * time.Second)
		tell(p, c)
	})
}

// event delivers a webhook.
func (p *play) event(name, body string) {
	p.t.Helper()
	w := p.post(strings.NewReader(body), map[string]string{
		"X-Hub-Signature-256": sign("sha256", sha256.New, webhookSecret, body), "X-GitHub-Event": name,
		"X-GitHub-Delivery": "guid-" + fmt.Sprint(len(body)), "Content-Type": "application/json",
	})
	if w.Code != http.StatusAccepted {
		p.t.Fatalf("%s: %d %s", name, w.Code, w.Body)
	}
}

func all() hub.Permissions { return hub.Permissions{"statuses": "write", "checks": "write"} }

// lastTold is what was told last of a context or check.
func (p *play) lastTold(name string) hub.Told {
	var last hub.Told
	for _, told := range p.w.GitHub.Told() {
		if told.Name == name {
			last = told
		}
	}
	return last
}

func TestCommitsAreToldWhatBecameOfThem(t *testing.T) {
	told(t, all(), func(p *play, c *commits) {
		if got := p.lastTold("dayfly/pools"); got.State != "success" || got.Text != "in force: 1 pools, signed by jane" || got.Repo != "acme/pools" {
			p.t.Errorf("first commit: got %+v", got)
		}
		bad := c.put("dayfly {\n  schema = 1\n}\npol \"x\" {\n}\n")
		c.move(bad)
		p.until(2*time.Minute, "the refusal", func() bool { return p.lastTold("dayfly/pools").Commit == bad })
		time.Sleep(time.Second)
		var states []string
		for _, got := range p.w.GitHub.Told() {
			if got.Commit != bad {
				continue
			}
			states = append(states, got.State)
			if stays := fmt.Sprintf("revision %040x stays in force.", 1); got.Check && !strings.Contains(got.Summary, stays) {
				p.t.Errorf("the check of the refused commit says %q, want %q", got.Summary, stays)
			}
			if got.Check && (len(got.Notes) == 0 || got.Notes[0].Path != "pools/linux.hcl" || got.Notes[0].StartLine != 4 || got.Notes[0].Level != "failure") {
				p.t.Errorf("notes of the refused commit: %+v", got.Notes)
			}
		}
		if len(states) != 2 || states[0] != "failure" || states[1] != "failure" {
			p.t.Errorf("the refused commit is told %q, want a status and a check, once", states)
		}
		time.Sleep(5 * time.Minute)
		if n := len(p.w.GitHub.Told()); n != 3 {
			p.t.Errorf("%d things were told, want 3: a refused commit is not looked at again", n)
		}
		for _, r := range p.status().Reports {
			if r.Off != "" {
				p.t.Errorf("%s are off: %s", r.What, r.Off)
			}
		}
	})
}

// TestPushBringsItsCommitIntoForceAtOnce, and what it says is not believed: the
// commit is the one that the repository has.
func TestPushBringsItsCommitIntoForceAtOnce(t *testing.T) {
	told(t, all(), func(p *play, c *commits) {
		p.stop()
		p.every.Pools = time.Hour
		p.start()
		time.Sleep(10 * time.Second)
		inForce := func(id string) func() bool { return func() bool { return p.status().Revision == id } }
		first, second := c.put(one(5)), c.put(one(6))
		c.move(first)
		time.Sleep(10 * time.Minute)
		if inForce(first)() {
			p.t.Fatal("a commit is in force before anybody looked")
		}
		body := fmt.Sprintf(`{"ref":"refs/heads/main","after":%q,"repository":{"full_name":"acme/pools"}}`, second)
		if w := p.post(strings.NewReader(body), map[string]string{"X-Hub-Signature-256": sign("sha256", sha256.New, "a guess", body), "X-GitHub-Event": "push", "Content-Type": "application/json"}); w.Code != http.StatusUnauthorized {
			p.t.Errorf("a push with another signature: %d, want 401", w.Code)
		}
		time.Sleep(time.Minute)
		if inForce(first)() {
			p.t.Error("a push with another signature woke the daemon")
		}
		p.event("push", body)
		p.until(2*time.Second, "the commit of the branch is in force", inForce(first))
	})
}

func TestProposalsAreToldWhatTheyWouldMean(t *testing.T) {
	told(t, all(), func(p *play, c *commits) {
		push := func(ref, id string) {
			p.event("push", fmt.Sprintf(`{"ref":%q,"after":%q,"repository":{"full_name":"acme/pools"}}`, ref, id))
			time.Sleep(2 * time.Second)
		}
		id := c.put(one(9), "refs/heads/topic")
		push("refs/heads/topic", id)
		if got := p.lastTold("dayfly/plan"); got.Commit != id || got.State != "success" || !strings.Contains(got.Summary, "`max`: `4` → `9`") {
			p.t.Errorf("a branch: got %+v", got)
		}
		bad := c.put("pool {", "refs/heads/topic")
		push("refs/heads/topic", bad)
		if got := p.lastTold("dayfly/plan"); got.Commit != bad || got.State != "failure" || len(got.Notes) != 1 {
			p.t.Errorf("a bad branch: got %+v", got)
		}
		fork := c.put(one(1), "refs/pull/7/head")
		p.event("pull_request", fmt.Sprintf(`{"action":"opened","number":7,"repository":{"full_name":"acme/pools"},"pull_request":{"head":{"sha":%q,"repo":{"full_name":"eve/pools"}}}}`, fork))
		time.Sleep(2 * time.Second)
		if got := p.lastTold("dayfly/plan"); got.Commit != fork || got.State != "success" || strings.Contains(got.Summary, "max") {
			p.t.Errorf("a fork: got %+v, want no plan", got)
		}
		before := len(p.w.GitHub.Told())
		push("refs/heads/topic", fork) // moved since, and deleted
		push("refs/heads/gone", strings.Repeat("0", 40))
		p.event("push", `{"ref":"refs/heads/topic","after":"`+bad+`","repository":{"full_name":"acme/app"}}`)
		time.Sleep(time.Minute)
		if n := len(p.w.GitHub.Told()); n != before {
			p.t.Errorf("%d more were told, want none", n-before)
		}
		if got := p.status().Revision; got != fmt.Sprintf("%040x", 1) {
			p.t.Errorf("in force is %s, want the first commit", got)
		}
	})
}

func TestNothingIsToldWithoutPermission(t *testing.T) {
	told(t, hub.Permissions{}, func(p *play, c *commits) {
		c.move(c.put("pool {"))
		time.Sleep(2 * time.Minute)
		if got := p.w.GitHub.Told(); len(got) != 0 {
			p.t.Errorf("told %+v", got)
		}
		reports := p.status().Reports
		if len(reports) != 2 || !strings.Contains(reports[0].Off, "checks: write") || !strings.Contains(reports[1].Off, "statuses: write") {
			p.t.Errorf("the status says %+v, want which permissions are missing", reports)
		}
	})
}

func TestRefusedJobsAreToldBesideTheirCommits(t *testing.T) {
	told(t, all(), func(p *play, c *commits) {
		p.open()
		id := p.queue(hub.NewJob{Repo: "acme/open"})
		p.until(2*time.Minute, "the check", func() bool { return p.lastTold("dayfly/access").Repo == "acme/open" })
		time.Sleep(5 * time.Minute)
		n := 0
		for _, got := range p.w.GitHub.Told() {
			if got.Name == "dayfly/access" {
				n++
			}
		}
		got := p.lastTold("dayfly/access")
		if n != 1 || got.State != "neutral" || !strings.Contains(got.Summary, "pool linux does not run jobs of public repositories") {
			p.t.Errorf("told %d times, last %+v", n, got)
		}
		p.w.GitHub.CancelJob(id)
	})
}

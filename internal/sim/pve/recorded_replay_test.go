package pve

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// replay plays one sequence.
type replay struct {
	t           *testing.T
	q           *sequence
	c           *Cluster
	node        string
	begin       time.Time
	mu          sync.Mutex
	same        map[string]string // recorded -> ours: UPIDs, tickets, digests
	known       map[string]bool   // recorded UPIDs of this sequence
	now         *entry            // being played, for the pace of the task it starts
	agree       int
	total       int
	differences []string
	daemonDown  bool
	proxyDown   bool
}

// secretMark stands in the recordings for every secret.
const secretMark = "[token]"

func newReplay(t *testing.T, q *sequence, sizes map[string][2]int64) *replay {
	p := &replay{t: t, q: q, same: map[string]string{}, known: map[string]bool{}, node: "pvelab"}
	start := int64(0)
	for _, e := range q.steps {
		for _, u := range e.upids() {
			f := upidRE.FindStringSubmatch(u)
			if f == nil {
				continue
			}
			p.known[u] = true
			if start == 0 && e.Status != nil && !strings.Contains(e.Path, u) && e.answerUPID() != "" {
				p.node = f[1]
				n, _ := strconv.ParseInt(f[5], 16, 64)
				start = n - int64(e.T/1000)
			}
		}
	}
	clock := &stage.Clock{}
	if start > 0 {
		clock.Skew(time.Until(time.Unix(start, 0)))
	}
	p.c = New(Config{Clock: clock, Nodes: []string{p.node}, Timing: slow})
	p.c.pace = p.pace
	p.build(sizes)
	return p
}

// upids are the UPIDs that a task line or an answer with one UPID names.
func (e *entry) upids() []string {
	if e.Task != nil {
		return []string{e.Task.UPID}
	}
	if u := e.answerUPID(); u != "" {
		return []string{u}
	}
	if m, _ := e.Body.(map[string]any); m != nil {
		if d, _ := m["data"].(map[string]any); d != nil {
			if u, _ := d["upid"].(string); u != "" && strings.HasSuffix(e.Path, "termproxy") {
				return []string{u}
			}
		}
	}
	return nil
}

func (e *entry) answerUPID() string {
	m, _ := e.Body.(map[string]any)
	u, _ := m["data"].(string)
	if strings.HasPrefix(u, "UPID:") {
		return u
	}
	return ""
}

// build makes the state that the sequence begins with.
func (p *replay) build(sizes map[string][2]int64) {
	s := p.q.state
	p.c.options = map[string]string{}
	for k, v := range s.Datacenter {
		if text, ok := v.(string); ok && text != "" {
			p.c.options[k] = text
		}
	}
	if p.c.options["mac_prefix"] == "" {
		p.c.options["mac_prefix"] = "BC:24:11"
	}
	for _, m := range s.Storages {
		p.storage(m, s.Archives, sizes)
	}
	for id, list := range s.Roles {
		p.c.AddRole(id, list)
	}
	p.c.SetPassword("root@pam", secretMark)
	p.c.AddUser("dayfly@pve")
	for id, privsep := range map[string]bool{"dayfly@pve!mgr": true, "root@pam!full": false} {
		p.c.AddToken(id, privsep)
		p.c.SetTokenSecret(id, secretMark)
	}
	for id, g := range s.Guests {
		k := Container{VMID: atoi(id), Config: map[string]string{}, Running: g.Status == "running"}
		for key, v := range g.Config {
			if key != "digest" {
				k.Config[key] = scalar(v)
			}
		}
		p.c.AddContainer(k)
	}
	for id, members := range s.Pools {
		p.c.AddResourcePool(id)
		for _, m := range members {
			if n, ok := strings.CutPrefix(m, "lxc/"); ok {
				p.c.AddResourcePool(id, atoi(n))
			} else if i := strings.LastIndexByte(m, '/'); i >= 0 {
				p.c.AddResourcePool(id, m[i+1:])
			}
		}
	}
	for _, a := range s.ACL {
		who := a.Ugid
		if a.Type == "group" {
			who = "@" + who
		}
		if _, t := p.c.access.tokenOf(a.Ugid); t == nil && a.Type == "token" {
			p.c.AddToken(a.Ugid, true)
			p.c.SetTokenSecret(a.Ugid, secretMark)
		}
		p.c.SetACL(a.Path, a.Roleid, a.Propagate == 1, who)
	}
}

func (p *replay) storage(m map[string]any, archives []string, sizes map[string][2]int64) {
	text := func(k string) string { s, _ := m[k].(string); return s }
	s := Storage{ID: text("storage"), Type: text("type"), Path: text("path"), Content: splitList(text("content"))}
	if text("vgname") != "" {
		s.Pool = text("vgname") + "/" + text("thinpool")
	} else if text("pool") != "" {
		s.Pool = text("pool")
	}
	if n, ok := sizes[s.ID]; ok {
		s.Size, s.Used = n[0], n[1]
	}
	for _, a := range archives {
		if name, ok := strings.CutPrefix(a, s.ID+":"); ok {
			s.Files = append(s.Files, Archive{Name: name, Size: 64 << 20, CTime: p.c.clock.Now().Unix()})
		}
	}
	p.c.AddStorage(s)
}

// run plays the steps: one after the other at their times, those under way
// together all at once.
func (p *replay) run() {
	defer p.c.Close()
	p.begin = time.Now()
	done := map[*entry]bool{}
	for i, e := range p.q.steps {
		switch {
		case done[e]:
		case e.Event != "":
			p.until(e.T)
			p.event(e.Event)
		case e.Task != nil:
			p.task(e)
		case e.Parallel == "":
			p.until(e.T)
			p.exchange(e)
		default:
			last := i
			for j, g := range p.q.steps {
				if g.Parallel == e.Parallel {
					last = j
				}
			}
			var group []*entry // with the polls in between
			for _, g := range p.q.steps[i : last+1] {
				if g.Task == nil && g.Event == "" && g.Method != "" {
					group = append(group, g)
					done[g] = true
				}
			}
			p.together(group)
		}
	}
}

// until lets time pass up to t milliseconds after the sequence began.
func (p *replay) until(t int) {
	if d := time.Until(p.begin.Add(time.Duration(t) * time.Millisecond)); d > 0 {
		time.Sleep(d)
	}
}

func (p *replay) together(group []*entry) {
	sortBy(group, func(a, b *entry) bool {
		if a.T == b.T {
			return a.at < b.at // those begun together are written as they ended
		}
		return a.T < b.T
	})
	group = winnersFirst(group)
	late := time.Since(p.begin) - time.Duration(group[0].T)*time.Millisecond
	if late > 0 {
		p.begin = p.begin.Add(late)
	}
	var wg sync.WaitGroup
	for i, e := range group {
		wg.Add(1)
		go func() {
			defer wg.Done()
			p.until(e.T)
			time.Sleep(time.Duration(i) * time.Microsecond) // one order for all
			p.exchange(e)
		}()
	}
	wg.Wait()
}

// winnersFirst moves the requests of a race that were let through in front of
// those that began within a moment of them: who wins a race is not in t.
func winnersFirst(group []*entry) []*entry {
	const moment = 10 // milliseconds
	for i := range group {
		for j := i; j > 0; j-- {
			a, b := group[j-1], group[j]
			if b.T-a.T > moment || won(a) && (!won(b) || a.T+a.MS <= b.T+b.MS) || !won(a) && !won(b) {
				break
			}
			group[j-1], group[j] = b, a
			a.T = b.T
		}
	}
	return group
}

func won(e *entry) bool { return e.Status != nil && *e.Status == 200 }

var (
	restartText = regexp.MustCompile(`restart (pvedaemon|pveproxy) (begins|is done)`)
	unlockText  = regexp.MustCompile(`pct unlock"? ?(\d+)`)
)

// event does on the host what the text says.
func (p *replay) event(text string) {
	if m := restartText.FindStringSubmatch(text); m != nil {
		if m[2] == "is done" {
			p.c.StartDaemon(p.node)
			p.c.StartProxy(p.node)
			p.daemonDown, p.proxyDown = false, false
		}
		return // when it begins, the first refused request shows when it is away
	}
	for _, m := range unlockText.FindAllStringSubmatch(text, -1) {
		p.c.Unlock(atoi(m[1]))
	}
	if strings.Contains(text, "SIGKILL") {
		for _, u := range p.c.Tasks(p.node) {
			p.c.KillWorker(u)
		}
	}
}

// unwritten are things done on the host that a recording leaves out: without
// them what follows could not be.
var unwritten = map[string]string{
	"07-tasks a a043": "pct unlock 1301",
}

// host brings the daemons to where the recorded answer found them.
func (p *replay) host(e *entry) {
	if text := unwritten[e.Scenario+" "+e.Seq+" "+e.Step]; text != "" {
		p.event(text)
	}
	if strings.Contains(e.Note, `after "pct unlock"`) {
		if m := regexp.MustCompile(`/lxc/(\d+)`).FindStringSubmatch(e.Path); m != nil {
			p.c.Unlock(atoi(m[1]))
		}
	}
	refused := e.ConnectError != ""
	if refused != p.proxyDown {
		if p.proxyDown = refused; refused {
			p.c.StopProxy(p.node)
		} else {
			p.c.StartProxy(p.node)
		}
	}
	if e.Status != nil && *e.Status == 596 && strings.Contains(e.Reason, "reset") && !p.daemonDown {
		p.daemonDown = true
		p.c.StopDaemon(p.node)
	}
}

// exchange sends a request and compares the answer.
func (p *replay) exchange(e *entry) {
	p.host(e)
	if e.ConnectError != "" && !strings.HasPrefix(e.Path, "/") {
		e.Path = "/api2/json/version" // "(task status)"
	}
	p.mu.Lock()
	p.now = e
	p.mu.Unlock()
	got := p.send(e)
	// A poll that found the task at its end is repeated until ours has ended.
	for range 2000 {
		if !strings.HasSuffix(e.Path, "/status") || !isStopped(e.Body) || isStopped(got.body) || got.code != 200 {
			break
		}
		time.Sleep(100 * time.Millisecond)
		got = p.send(e)
	}
	p.learn(e, got)
	p.count(e.Step, p.compare(e, got))
}

func isStopped(body any) bool {
	m, _ := body.(map[string]any)
	d, _ := m["data"].(map[string]any)
	return d["status"] == "stopped" && d["upid"] != nil
}

func (p *replay) count(step string, differences []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total++
	if len(differences) == 0 {
		p.agree++
		return
	}
	for _, d := range differences {
		p.differences = append(p.differences, step+": "+d)
	}
}

// got is our answer.
type got struct {
	code   int
	reason string
	body   any
	kind   string
	err    error
}

func (p *replay) send(e *entry) got {
	req, err := p.request(e)
	if err != nil {
		return got{err: fmt.Errorf("request cannot be made: %w", err)}
	}
	res, err := stage.Transport{Handler: p.c}.RoundTrip(req)
	if err != nil {
		return got{err: err}
	}
	b, _ := io.ReadAll(res.Body)
	g := got{code: res.StatusCode, kind: res.Header.Get("Content-Type")}
	_, g.reason, _ = strings.Cut(res.Status, " ")
	if json.Unmarshal(b, &g.body) != nil {
		g.body = string(b)
	}
	return g
}

// learn remembers which of our UPIDs, tickets and digests stand for which
// recorded ones.
func (p *replay) learn(e *entry, g got) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rec, _ := e.Body.(map[string]any)
	our, _ := g.body.(map[string]any)
	if u, ok := rec["data"].(string); ok && strings.HasPrefix(u, "UPID:") {
		if o, ok := our["data"].(string); ok && strings.HasPrefix(o, "UPID:") {
			p.same[u] = o
		}
	}
	r, _ := rec["data"].(map[string]any)
	o, _ := our["data"].(map[string]any)
	for _, k := range []string{"upid", "ticket", "digest", "CSRFPreventionToken"} {
		a, ok := r[k].(string)
		b, ok2 := o[k].(string)
		if ok && ok2 {
			p.same[a] = b
		}
	}
	p.learnListed(rec["data"], our["data"])
}

// learnListed finds tasks whose UPID no answer gave, by type and id.
func (p *replay) learnListed(rec, our any) {
	rows, _ := rec.([]any)
	ours, _ := our.([]any)
	for _, r := range rows {
		row, _ := r.(map[string]any)
		u, _ := row["upid"].(string)
		if u == "" || !p.known[u] || p.same[u] != "" {
			continue
		}
		for _, o := range ours {
			if m, _ := o.(map[string]any); m["type"] == row["type"] && m["id"] == row["id"] {
				p.same[u] = m["upid"].(string)
				break
			}
		}
	}
}

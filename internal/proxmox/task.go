package proxmox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

const (
	firstPoll = 10 * time.Millisecond
	lastPoll  = 250 * time.Millisecond
	longNap   = 2 * time.Second // before the first poll of a task known to be slow
)

// upid names a task: UPID:node:pid:pstart:start:type:id:user:
type upid string

// 8 or 9 digits of start: pve-common, UPID.pm.
var upidForm = regexp.MustCompile(`^UPID:([A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?):[0-9A-Fa-f]{8,9}:[0-9A-Fa-f]{8,9}:[0-9A-Fa-f]{8}:([A-Za-z0-9_-]+):([^:\s/?#]*):([^:\s/?#]+):$`)

func (u upid) node() string { return upidForm.FindStringSubmatch(string(u))[1] }

// pace names the tasks that take as long as this one: clones of one template,
// whose storage and size decide, or all tasks of a kind.
func (u upid) pace() string {
	m := upidForm.FindStringSubmatch(string(u))
	if kind, on := m[2], m[3]; kind == "vzclone" {
		return kind + " " + on
	}
	return m[2]
}

// checked adds to err the case that the answer of method on path was a success
// and yet names no task.
func (u upid) checked(method, path string, err error) (upid, error) {
	if err != nil || upidForm.MatchString(string(u)) {
		return u, err
	}
	return "", &Error{Method: method, Path: path, Status: http.StatusOK,
		Reason: "answer names no task", Kind: fleet.ErrUnknownOutcome}
}

// TaskError is a task that ended badly.
type TaskError struct {
	UPID string
	Exit string   // exit status, in Proxmox's words
	Log  []string // last lines that say more than Exit
	Kind error    // nil: none of package fleet's kinds
}

func (e *TaskError) Error() string {
	if len(e.Log) == 0 {
		return e.Exit
	}
	return e.Exit + " (task log: " + strings.Join(e.Log, "; ") + ")"
}

// Unwrap gives errors.Is the kind.
func (e *TaskError) Unwrap() error { return e.Kind }

// wait waits until the task ends or ctx does. While a task runs only its UPID
// is asked: during a start the listing, status/current and interfaces block
// until the container's init runs.
func (c *Client) wait(ctx context.Context, id upid) error {
	begin := time.Now()
	c.remember(id)
	nap, next := c.paces.naps(id.pace())
	var trouble error
	for ran := time.Duration(0); ; ran = time.Since(begin) {
		if err := sleep(ctx, nap); err != nil {
			return lost(id, err, trouble)
		}
		exit, done, err := c.poll(ctx, id)
		switch {
		case done:
			c.paces.learn(id.pace(), ran, time.Since(begin))
			return c.outcome(ctx, id, exit)
		case errors.Is(err, fleet.ErrUnavailable):
			trouble = err // pvedaemon restarts, a connection broke: the task goes on
		case err != nil:
			return lost(id, err, nil)
		}
		nap, next = next, min(next*5/4, cmp.Or(c.longest, lastPoll))
	}
}

func (c *Client) poll(ctx context.Context, id upid) (exit string, done bool, err error) {
	var status struct {
		Status     text `json:"status"`
		ExitStatus text `json:"exitstatus"`
	}
	err = c.get(ctx, taskPath(id, "status"), nil, &status)
	if err != nil {
		return "", false, err
	}
	return string(status.ExitStatus), status.Status == "stopped", nil
}

func taskPath(id upid, what string) string {
	return "/nodes/" + id.node() + "/tasks/" + string(id) + "/" + what
}

// lost is the error of a task whose end was not seen.
func lost(id upid, err, trouble error) error {
	reason := err.Error()
	if trouble != nil {
		reason += ", last answer: " + trouble.Error()
	}
	return &Error{Method: http.MethodGet, Path: taskPath(id, "status"),
		Reason: "task not seen to end: " + reason, Kind: fleet.ErrUnknownOutcome, Cause: err}
}

// outcome turns an exit status into nil or a *TaskError.
func (c *Client) outcome(ctx context.Context, id upid, exit string) error {
	// "WARNINGS: n" is success (pve-common, UPID.pm, status_is_error).
	if exit == "OK" || strings.HasPrefix(exit, "WARNINGS: ") {
		return nil
	}
	e := &TaskError{UPID: string(id), Exit: joinLines(exit), Kind: kindOfText(exit)}
	if exit == "" {
		e.Exit, e.Kind = "task ended without an exit status", fleet.ErrUnknownOutcome
	}
	lines, err := c.taskLog(ctx, id)
	if err != nil {
		return e // the exit status says enough
	}
	e.Log = tail(lines, exit)
	return e
}

func (c *Client) taskLog(ctx context.Context, id upid) ([]string, error) {
	var lines []struct {
		Text text `json:"t"`
	}
	err := c.get(ctx, taskPath(id, "log"), url.Values{"limit": {"1000"}}, &lines)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range lines {
		out = append(out, string(l.Text))
	}
	return out, nil
}

// tail keeps the last lines of a log that say more than the exit status.
func tail(lines []string, exit string) []string {
	var last []string
	for _, l := range lines {
		l = strings.TrimSpace(l)
		if l == "" || strings.Contains(l, exit) || strings.Contains(exit, l) {
			continue
		}
		last = append(last, l)
	}
	return last[max(0, len(last)-3):]
}

// remember keeps the tasks that are accounted for.
func (c *Client) remember(id upid) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tasks) >= 4096 { // far more than any search goes back
		clear(c.tasks)
	}
	c.tasks[id] = true
}

// begun finds the newest own task of a kind on an id that is not accounted
// for: the one that a request with a lost answer began. suits may refuse
// candidates.
func (c *Client) begun(ctx context.Context, node, kind string, on fleet.VMID, since time.Time, suits func(upid) bool) (upid, bool, error) {
	var list []struct {
		UPID  upid    `json:"upid"`
		Start integer `json:"starttime"`
	}
	// The node's clock may be off by a minute (more is a fault that the
	// daemon reports); tasks of before are known by UPID.
	from := since.Add(-90 * time.Second).Unix()
	err := c.get(ctx, "/nodes/"+url.PathEscape(node)+"/tasks", url.Values{
		"source": {"all"}, "typefilter": {kind}, "vmid": {fmt.Sprint(on)},
		"since": {strconv.FormatInt(from, 10)}, "limit": {"20"},
	}, &list)
	if err != nil {
		return "", false, err
	}
	var best upid
	var start integer = -1
	for _, t := range list {
		if t.Start <= start || !upidForm.MatchString(string(t.UPID)) || c.accounted(t.UPID) {
			continue
		}
		if strings.HasSuffix(string(t.UPID), ":"+c.tokenID+":") && suits(t.UPID) {
			best, start = t.UPID, t.Start
		}
	}
	return best, best != "", nil
}

func (c *Client) accounted(id upid) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tasks[id]
}

// anyTask suits every search.
func anyTask(upid) bool { return true }

// paces remembers when to look at a task for the first time, so that one look
// is nearly enough: about when such tasks end.
type paces struct {
	mu    sync.Mutex
	known map[string]pace
}

// pace is a time by which a share of such tasks has ended: it grows with each
// that had not, and shrinks a little with each that had, ever faster.
type pace struct {
	by    time.Duration
	early int // tasks in a row that had ended by then
}

// unhurried reports whether nobody waits for the end of such tasks.
func unhurried(name string) bool { return name == "vzdestroy" }

// naps are the times before the first poll and before the second.
func (p *paces) naps(name string) (first, second time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	by := p.known[name].by
	second = by / 12
	if unhurried(name) {
		second = by / 4
	}
	return min(max(by, firstPoll), longNap), min(max(second, firstPoll), lastPoll)
}

// learn notes that a task was last seen to run after ran (0: never) and to have
// ended after took. Half of the tasks are to be seen to end at the first look,
// of those that nobody waits for four in five.
func (p *paces) learn(name string, ran, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = map[string]pace{}
	}
	k, seen := p.known[name]
	up, down := k.by/32, k.by/100
	if unhurried(name) {
		up, down = k.by/10, k.by/200
	}
	switch {
	case !seen:
		k.by = took
	case ran == 0:
		k.early++
		k.by -= min(down*time.Duration(k.early), k.by/2)
	case took > 2*k.by: // it may be an exception
		k = pace{by: max(k.by, firstPoll) * 5 / 4}
	default:
		k = pace{by: min(took, k.by+up)}
	}
	p.known[name] = k
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

package pve

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// upidRE takes a UPID apart: node, pid, pstart, starttime, type, id, user.
var upidRE = regexp.MustCompile(`^UPID:([a-zA-Z0-9]([a-zA-Z0-9\-]*[a-zA-Z0-9])?):([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8,9}):([0-9A-Fa-f]{8}):([^:\s]+):([^:\s]*):([^:\s]+):$`)

// task finds the task in the path; a missing one is no error yet.
func (r *call) task() (*task, error) {
	if !upidRE.MatchString(r.str("upid")) {
		return nil, badParam("upid", "unable to parse worker upid")
	}
	return r.c.tasks[r.str("upid")], nil
}

// mine reports whether the task is the caller's: started by the very same
// token, or by the user itself.
func (r *call) mine(user string) bool { return user == r.who }

// mayTask refuses the tasks of others to who lacks the privilege on the node.
func (r *call) mayTask(t *task, name string) error {
	if r.mine(t.user) {
		return nil
	}
	return r.c.check(r.who, "/nodes/"+r.str("node"), name)
}

// identity is how a finished task names who started it: user and token apart.
func (t *task) identity(e map[string]any) {
	user, token, isToken := strings.Cut(t.user, "!")
	e["user"] = user
	if isToken {
		e["tokenid"] = token
	}
}

func (t *task) basics() map[string]any {
	return map[string]any{"upid": t.upid, "node": t.node.name, "pid": t.pid, "pstart": t.pstart, "starttime": t.began.Unix(),
		"type": t.kind, "id": t.id}
}

// listed is a task in the list of its node. A running one has the full token
// id as its user.
func (t *task) listed() map[string]any {
	e := t.basics()
	if t.live {
		e["status"], e["saved"], e["user"] = "RUNNING", "0", t.user
		return e
	}
	t.identity(e)
	e["status"], e["endtime"] = t.exit, t.ended.Unix()
	return e
}

func (t *task) statusClass() string {
	switch {
	case t.exit == "OK":
		return "ok"
	case strings.HasPrefix(t.exit, "WARNINGS: "):
		return "warning"
	case t.exit == "" || t.exit == "unexpected status":
		return "unknown"
	}
	return "error"
}

// listTasks lists the caller's own tasks of a node, everybody's with
// Sys.Audit, newest first.
func listTasks(r *call) (any, error) {
	all := r.c.may(r.who, "/nodes/"+r.node.name, privBits["Sys.Audit"], false)
	source := r.str("source")
	if source == "" {
		source = "archive"
	}
	out := []map[string]any{}
	limit, skip, total := 50, r.num("start"), 0
	if r.has("limit") {
		limit = r.num("limit")
	}
	for pass := range 2 { // what runs is listed first
		if (pass == 0) != (source == "active" || source == "all") && pass == 0 {
			continue
		}
		if pass == 1 && source == "active" {
			continue
		}
		for i := len(r.node.tasks) - 1; i >= 0; i-- {
			t := r.node.tasks[i]
			if t.live != (pass == 0) || !(all || r.mine(t.user)) || !r.wanted(t) {
				continue
			}
			total++
			if total > skip && len(out) < limit {
				out = append(out, t.listed())
			}
		}
	}
	return page{out, total}, nil
}

// wanted applies the list's filters.
func (r *call) wanted(t *task) bool {
	if f := r.str("typefilter"); f != "" && t.kind != f {
		return false
	}
	if r.has("vmid") && t.id != r.str("vmid") {
		return false
	}
	if f := r.str("userfilter"); f != "" && !strings.Contains(strings.ToLower(t.user), strings.ToLower(f)) {
		return false
	}
	if r.has("since") && t.began.Before(time.Unix(int64(r.num("since")), 0)) {
		return false
	}
	if r.has("until") && t.began.After(time.Unix(int64(r.num("until")), 0)) {
		return false
	}
	if r.on("errors") && t.exit == "OK" { // warnings count as errors here
		return false
	}
	if f := r.str("statusfilter"); f != "" {
		for _, s := range splitList(f) {
			if s == t.statusClass() {
				return true
			}
		}
		return false
	}
	return true
}

// clusterTasks compares the caller's user name without the token to the full
// token id, so that a token without Sys.Audit on / sees nothing: a bug of
// Proxmox (PVE::API2::Cluster).
func clusterTasks(r *call) (any, error) {
	out := []map[string]any{}
	all := r.c.may(r.who, "/", privBits["Sys.Audit"], false)
	for _, name := range r.c.names {
		tasks := r.c.nodes[name].tasks
		for i := len(tasks) - 1; i >= 0 && len(out) < 25; i-- {
			t := tasks[i]
			if !all && (strings.Contains(r.who, "!") || t.user != r.who) {
				continue
			}
			e := t.listed()
			delete(e, "pid")
			delete(e, "pstart")
			e["saved"] = "1"
			if t.live {
				e["saved"] = "0"
			}
			out = append(out, e)
		}
	}
	return out, nil
}

func taskIndex(*call) (any, error) { return index("name", "log", "status"), nil }

func taskStatus(r *call) (any, error) {
	t, err := r.task()
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, badParam("upid", "no such task")
	}
	if err := r.mayTask(t, "Sys.Audit"); err != nil {
		return nil, err
	}
	e := t.basics()
	t.identity(e)
	e["status"] = "running"
	if !t.live {
		e["status"], e["exitstatus"] = "stopped", t.exit
	}
	return e, nil
}

// taskLog gives the lines of a task's log. The log of a task that never was is
// not refused: it has one line that says so.
func taskLog(r *call) (any, error) {
	t, err := r.task()
	if err != nil {
		return nil, err
	}
	lines := []string{"unable to open file - No such file or directory"}
	user := upidRE.FindStringSubmatch(r.str("upid"))[8]
	if t != nil {
		if lines, user = t.log, t.user; len(lines) == 0 {
			lines = []string{"no content"}
		}
	}
	if !r.mine(user) {
		if err := r.c.check(r.who, "/nodes/"+r.str("node"), "Sys.Audit"); err != nil {
			return nil, err
		}
	}
	if r.on("download") && t != nil {
		return raw{body: strings.Join(lines, "\n") + "\n", contentType: "text/plain", disposition: fmt.Sprintf(
			"attachment; filename=\"task-%s-%s-%s.log\"", t.node.name, t.kind, t.began.UTC().Format("2006-01-02T15:04:05Z"))}, nil
	}
	start, limit := r.num("start"), 50
	if r.has("limit") {
		limit = r.num("limit")
	}
	type line struct {
		N int    `json:"n"`
		T string `json:"t"`
	}
	out := []line{}
	for i := start; i < len(lines) && (limit == 0 || len(out) < limit); i++ {
		out = append(out, line{i + 1, lines[i]})
	}
	return page{out, len(lines)}, nil
}

// stopTask sends TERM and waits; what has not ended after five seconds is
// killed.
func stopTask(r *call) (any, error) {
	t, err := r.task()
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, badParam("upid", "no such task")
	}
	if err := r.mayTask(t, "Sys.Modify"); err != nil || !t.live {
		return nil, err
	}
	r.wait(func(got func(bool)) {
		t.onEnd = append(t.onEnd, func() { got(true) })
		t.terminate()
		if t.live {
			r.c.after(5*time.Second, t.kill)
		}
	})
	return nil, nil
}

// termproxy opens a console; nobody ever connects, so that its task fails
// after ten seconds.
func termproxy(r *call) (any, error) {
	r.node.console++
	port := strconv.Itoa(5900 + (r.node.console-1)%100)
	vmid, c := r.str("vmid"), r.c
	t := c.fork(r.node, "vncproxy", vmid, r.who, func(t *task) {
		t.after(10*time.Second, func() {
			t.say("failed waiting for client: timed out")
			t.fail("command '/usr/bin/termproxy " + port + " --path /vms/" + vmid + " --perm VM.Console --vncticket-endpoint --verify-port --ticket-fd 6 -- " +
				"/usr/bin/dtach -A /var/run/dtach/vzctlconsole" + vmid + " -r winch -z lxc-console -n " + vmid + " -e -1' failed: exit code 1")
		})
		r.c.after(10*time.Second, func() { r.node.console-- })
	})
	return map[string]string{"ticket": c.ticket("PVEVNC", ""), "user": r.who, "port": port, "upid": t.upid}, nil
}

// vncwebsocket checks the ticket. Only the answer to a request without an
// upgrade is modelled: dayfly never opens a console.
func vncwebsocket(r *call) (any, error) {
	if _, ok := r.c.verify("PVEVNC", r.str("vncticket")); !ok {
		r.sleep(3 * time.Second)
		return nil, &refusal{code: 401, message: "permission denied - invalid PVEVNC ticket"}
	}
	return map[string]string{"port": r.str("port")}, nil
}

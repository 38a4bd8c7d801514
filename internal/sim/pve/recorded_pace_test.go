package pve

import (
	"strings"
	"time"
)

// pace makes a task last as long as the recorded one did: until just before
// the first request that saw its end, and past the last that saw it run.
func (p *replay) pace(t *task) {
	e := p.now
	if e == nil {
		return
	}
	d := time.Duration(p.lasted(e, t.kind)) * time.Millisecond
	if exit := p.exit(e.answerUPID()); strings.Contains(exit, "interrupted") || exit == "unexpected status" {
		d = time.Minute // it is ended from outside
	} else if exit != "OK" && (t.kind == "vzcreate" || exit != "" && strings.HasPrefix(exit, "no such")) {
		d *= 4 // it fails on its way
		if t.kind == "vzcreate" {
			d = d * 9 / 4
		}
	}
	t.timing = Timing{Clone: d, FullClone: d, Create: d, Start: d, Stop: d, Shutdown: d, Destroy: d, Template: d, Disk: d}
	if t.kind == "vzdestroy" { // a forced one stops first
		if k := p.c.cts[atoi(t.id)]; k != nil && k.running {
			t.timing.Stop, t.timing.Destroy = d*6/10, d*4/10
		}
	}
}

// exit is a recorded task's exit status.
func (p *replay) exit(upid string) string {
	for _, s := range p.q.steps {
		if s.Task != nil && s.Task.UPID == upid {
			return s.Task.Exitstatus
		}
	}
	return "OK"
}

// lasted is how many milliseconds after the request its task ended.
func (p *replay) lasted(e *entry, kind string) int {
	upid := e.answerUPID()
	if upid == "" {
		return p.lastedUnseen(e)
	}
	ran, ended := e.T+1, 0
	for _, s := range p.q.steps {
		if !strings.Contains(s.Path, upid) || !strings.HasSuffix(s.Path, "/status") || s.T < e.T {
			continue
		}
		if isStopped(s.Body) {
			ended = s.T
			break
		}
		if s.Status != nil && *s.Status == 200 {
			ran = max(ran, s.T)
		}
	}
	if kind == "vzstart" && ended == 0 {
		ended = p.unblocked(e)
	}
	if ended == 0 {
		ended = p.beforeTaskLine(upid, ran)
	}
	return max(ended-e.T-2, ran-e.T+1)
}

// unblocked is when the first read was answered that had waited for a start.
func (p *replay) unblocked(e *entry) int {
	current := strings.TrimSuffix(e.Path, "/start") + "/current"
	first := 0
	for _, s := range p.q.steps[e.at+1:] {
		if s.Path == current && s.MS > 2000 && (first == 0 || s.T+s.MS < first) {
			first = s.T + s.MS
		}
	}
	return first
}

// beforeTaskLine is when the first request after a task's line was sent: by
// then the task had ended.
func (p *replay) beforeTaskLine(upid string, ran int) int {
	seen := false
	for _, s := range p.q.steps {
		if s.Task != nil && s.Task.UPID == upid {
			seen = true
		} else if seen && s.Method != "" && s.T > ran {
			return s.T
		}
	}
	return ran + 2000
}

// lastedUnseen is for a task with no UPID in the answer, the conversion to a
// template: it ended before a configuration showed it.
func (p *replay) lastedUnseen(e *entry) int {
	config := strings.TrimSuffix(e.Path, "/template") + "/config"
	ran := e.T + 1
	for _, s := range p.q.steps[e.at+1:] {
		if s.Path == e.Path && s.MS > 1000 {
			return s.T + s.MS - e.T - 2 // another conversion waited for the lock
		}
		if s.Path != config || s.Method != "GET" {
			continue
		}
		m, _ := s.Body.(map[string]any)
		d, _ := m["data"].(map[string]any)
		if d["template"] != nil {
			return max(s.T-e.T-2, 1)
		}
		ran = s.T
	}
	return ran - e.T + 1
}

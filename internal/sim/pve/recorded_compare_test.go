package pve

import (
	"encoding/json"
	"fmt"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"
)

// measured are values that differ from run to run.
var measured = map[string]bool{
	"cpu": true, "mem": true, "memhost": true, "disk": true, "diskread": true, "diskwrite": true, "netin": true, "netout": true,
	"uptime": true, "pid": true, "pstart": true, "starttime": true, "endtime": true, "snaptime": true, "ctime": true, "size": true,
	"used": true, "avail": true, "used_fraction": true, "digest": true, "ssl_fingerprint": true, "repoid": true,
	"loadavg": true, "idle": true, "wait": true, "kversion": true, "current-kernel": true, "cpuinfo": true, "memory": true, "rootfs": true,
	"swap": true, "ip": true, "pveversion": true, "maxcpu": true, "saved": true, "ticket": true, "CSRFPreventionToken": true, "upid": true,
	"hwaddr": true, "hardware-address": true, "boot-info": true, "ksm": true,
}

// numbersInConfig are keys of measured that are settings in a configuration.
var settings = map[string]bool{"memory": true, "rootfs": true, "swap": true}

// tolerated are differences that the recordings cannot settle, with reasons.
// Each is a rule on the bodies, applied to both sides before they are compared.
var tolerated = []struct {
	reason string
	apply  func(p *replay, e *entry, body any) any
}{
	{"the state lines do not say in which phase of its round pvestatd is, nor what it saw last: a container it has not reported yet shows as unknown, without name and figures", unreported},
	{"an address is there once the guest's DHCP client has one, which takes as long as it takes", noAddresses},
	{"the server was used for other calls between the sequences: its task lists hold tasks of no sequence", onlyKnownTasks},
	{"Perl's hash order decides which of several offending tags is named, and the order of a storage's content types", hashOrder},
	{"a copy measures itself, ids and keys are random, and the order of the keys is a hash's", logFigures},
	{"figures of the measured host: flags of its CPU, free space of a running container's file system", hostFigures},
}

// compare gives the differences between a recorded answer and ours.
func (p *replay) compare(e *entry, g got) []string {
	if e.ConnectError != "" || (e.Status != nil && *e.Status == 0) {
		if g.err == nil {
			return []string{fmt.Sprintf("got %d %s, want no answer", g.code, g.reason)}
		}
		return nil
	}
	if g.err != nil {
		return []string{fmt.Sprintf("got no answer (%v), want %d %s", g.err, *e.Status, e.Reason)}
	}
	var out []string
	want := p.text(e.Reason)
	if g.code != *e.Status || p.text(g.reason) != want {
		out = append(out, fmt.Sprintf("%s %s: got %d %s, want %d %s (%s)", e.Method, e.Path, g.code, g.reason, *e.Status, e.Reason, e.Note))
	}
	rec, our := e.Body, g.body
	for _, rule := range tolerated {
		rec, our = rule.apply(p, e, rec), rule.apply(p, e, our)
	}
	if g.code == *e.Status {
		p.diff(e, "body", rec, our, &out)
	}
	if len(out) > 3 {
		out = append(out[:3], fmt.Sprintf("and %d more", len(out)-3))
	}
	return out
}

// idOf is what tells the elements of a list apart, "" if nothing does.
func idOf(v any) string {
	m, ok := v.(map[string]any)
	if !ok {
		b, _ := json.Marshal(v)
		return string(b)
	}
	for _, k := range []string{"id", "vmid", "volid", "key", "poolid", "n", "pos", "cidr", "ref", "storage", "subdir", "name", "userid"} {
		if x, ok := m[k]; ok && m["type"] != "vzclone" && m["upid"] == nil {
			return fmt.Sprint(k, "=", x, m["ugid"], m["path"])
		}
	}
	if m["path"] != nil {
		return fmt.Sprint(m["path"], m["ugid"], m["roleid"])
	}
	return ""
}

// diff compares two bodies: the same keys, and the same values unless they
// are measured.
func (p *replay) diff(e *entry, path string, rec, our any, out *[]string) {
	key := path[strings.LastIndexByte(path, '.')+1:]
	if measured[key] && !(settings[key] && strings.Contains(e.Path, "/config")) && (rec == nil) == (our == nil) {
		return
	}
	switch r := rec.(type) {
	case map[string]any:
		o, ok := our.(map[string]any)
		if !ok {
			*out = append(*out, fmt.Sprintf("%s: got %s, want an object %s", path, short(our), short(rec)))
			return
		}
		for _, k := range union(r, o) {
			a, inRec := r[k]
			b, inOur := o[k]
			if inRec != inOur {
				*out = append(*out, fmt.Sprintf("%s.%s: got %s, want %s", path, k, presence(b, inOur), presence(a, inRec)))
				continue
			}
			p.diff(e, path+"."+k, a, b, out)
		}
	case []any:
		o, ok := our.([]any)
		if !ok {
			*out = append(*out, fmt.Sprintf("%s: got %s, want a list %s", path, short(our), short(rec)))
			return
		}
		p.diffList(e, path, r, o, out)
	default:
		if p.text(scalarText(rec)) != p.text(scalarText(our)) || fmt.Sprintf("%T", rec) != fmt.Sprintf("%T", our) {
			*out = append(*out, fmt.Sprintf("%s: got %s, want %s", path, short(our), short(rec)))
		}
	}
}

func (p *replay) diffList(e *entry, path string, rec, our []any, out *[]string) {
	if len(rec) > 0 && idOf(rec[0]) != "" {
		by := func(l []any) func(i, j int) bool { return func(i, j int) bool { return idOf(l[i]) < idOf(l[j]) } }
		rec, our = append([]any(nil), rec...), append([]any(nil), our...)
		sort.SliceStable(rec, by(rec))
		sort.SliceStable(our, by(our))
	}
	if len(rec) != len(our) {
		*out = append(*out, fmt.Sprintf("%s: got %d elements, want %d: got %s, want %s", path, len(our), len(rec), short(our), short(rec)))
		return
	}
	for i := range rec {
		p.diff(e, fmt.Sprintf("%s[%d]", path, i), rec[i], our[i], out)
	}
}

func union(a, b map[string]any) []string {
	all := map[string]bool{}
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	return sortedKeys(all)
}

func presence(v any, there bool) string {
	if !there {
		return "nothing"
	}
	return short(v)
}

func short(v any) string {
	b, _ := json.Marshal(v)
	if len(b) > 300 {
		return string(b[:300]) + "..."
	}
	return string(b)
}

func scalarText(v any) string {
	if v == nil {
		return "null"
	}
	return scalar(v)
}

var (
	macText  = regexp.MustCompile(`hwaddr=[0-9A-Fa-f:]{17}`)
	uuidText = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	keyText  = regexp.MustCompile(`SHA256:\S+`)
	dateText = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:]+Z`)
)

// text is a text without what differs from run to run.
func (p *replay) text(s string) string {
	s = p.ours(s)
	s = macText.ReplaceAllString(s, "hwaddr=*")
	s = dateText.ReplaceAllString(s, "DATE")
	s = offendingTag.ReplaceAllString(s, "Sys.Modify for modifying tag '*'")
	return s
}

func data(body any) (map[string]any, any) {
	m, _ := body.(map[string]any)
	if m == nil {
		return nil, nil
	}
	return m, m["data"]
}

// withData is a copy of a body with other data.
func withData(m map[string]any, d any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	out["data"] = d
	return out
}

func eachRow(v any, fn func(map[string]any) map[string]any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, 0, len(v))
		for _, x := range v {
			if m, ok := x.(map[string]any); ok {
				if m = fn(m); m != nil {
					out = append(out, m)
				}
				continue
			}
			out = append(out, x)
		}
		return out
	case map[string]any:
		return fn(v)
	}
	return v
}

// unreported keeps of a container's row only what does not come from pvestatd.
func unreported(p *replay, e *entry, body any) any {
	if !strings.HasPrefix(e.Path, "/api2/json/cluster/resources") && !strings.HasPrefix(e.Path, "/api2/json/pools") {
		return body
	}
	m, d := data(body)
	var strip func(row map[string]any) map[string]any
	strip = func(row map[string]any) map[string]any {
		out := map[string]any{}
		for k, v := range row {
			if k == "members" {
				v = eachRow(v, strip)
			}
			if row["type"] != "lxc" || k == "id" || k == "vmid" || k == "node" || k == "type" || k == "pool" || k == "lock" || k == "tags" {
				out[k] = v
			}
		}
		return out
	}
	if m == nil {
		return body
	}
	return withData(m, eachRow(d, strip))
}

func noAddresses(_ *replay, e *entry, body any) any {
	m, d := data(body)
	if !strings.HasSuffix(e.Path, "/interfaces") || d == nil {
		return body
	}
	return withData(m, eachRow(d, func(row map[string]any) map[string]any {
		if row["name"] == "lo" {
			return row
		}
		return map[string]any{"name": row["name"], "hwaddr": row["hwaddr"], "hardware-address": row["hardware-address"]}
	}))
}

// onlyKnownTasks leaves the tasks of the sequence in a list.
func onlyKnownTasks(p *replay, e *entry, body any) any {
	m, d := data(body)
	if !strings.HasSuffix(e.Path, "/tasks") || m == nil {
		return body
	}
	foreign := false
	p.mu.Lock()
	defer p.mu.Unlock()
	ours := map[string]bool{}
	for rec := range p.known {
		ours[rec] = true
		ours[p.same[rec]] = true
	}
	if rec, ok := data2(e.Body).([]any); ok {
		for _, r := range rec {
			if row, _ := r.(map[string]any); !ours[fmt.Sprint(row["upid"])] {
				foreign = true
			}
		}
	}
	out := withData(m, eachRow(d, func(row map[string]any) map[string]any {
		if !ours[fmt.Sprint(row["upid"])] {
			return nil
		}
		return row
	}))
	if foreign || strings.Contains(string(e.Params), "limit") {
		delete(out, "total")
	}
	return out
}

func data2(body any) any { _, d := data(body); return d }

var offendingTag = regexp.MustCompile(`Sys.Modify for modifying tag '[^']*'`)

// hashOrder brings what Perl keeps in hashes into one order.
func hashOrder(_ *replay, _ *entry, body any) any {
	m, d := data(body)
	if m == nil {
		return body
	}
	out := withData(m, eachRow(d, func(row map[string]any) map[string]any {
		if c, ok := row["content"].(string); ok {
			l := splitList(c)
			sort.Strings(l)
			row = withData(row, row["data"])
			if row["data"] == nil {
				delete(row, "data")
			}
			row["content"] = strings.Join(l, ",")
		}
		return row
	}))
	if s, ok := out["message"].(string); ok {
		out["message"] = offendingTag.ReplaceAllString(s, "Sys.Modify for modifying tag '*'")
	}
	return out
}

// hostFigures drops what the recording's host and kernel decide.
func hostFigures(_ *replay, e *entry, body any) any {
	m, d := data(body)
	if m == nil {
		return body
	}
	return withData(m, eachRow(d, func(row map[string]any) map[string]any {
		if row["status"] != "running" && row["type"] != "node" && !strings.HasSuffix(e.Path, "/status") {
			return row
		}
		out := withData(row, nil)
		delete(out, "data")
		for k := range out {
			if k == "maxdisk" || k == "maxmem" && row["type"] == "node" || strings.HasPrefix(k, "pressure") && fmt.Sprint(out[k]) != "" {
				out[k] = "figure"
			}
		}
		return out
	}))
}

// logFigures turns a log into one text without what is measured or random.
func logFigures(_ *replay, e *entry, body any) any {
	m, d := data(body)
	rows, ok := d.([]any)
	if !ok || !strings.HasSuffix(e.Path, "/log") {
		return body
	}
	var lines []string
	for i, r := range rows {
		row, _ := r.(map[string]any)
		if i == 0 && fmt.Sprint(row["n"]) != "1" {
			return body // a part of a log stays as it is
		}
		lines = append(lines, scalarText(row["t"]))
	}
	return withData(m, logText(lines))
}

// task compares a finished task.
func (p *replay) task(e *entry) {
	p.mu.Lock()
	our := p.same[e.Task.UPID]
	p.mu.Unlock()
	p.c.mu.Lock()
	t := p.c.tasks[our]
	p.c.mu.Unlock()
	if t == nil {
		p.count(e.Step, []string{"task " + e.Task.UPID + ": got none"})
		return
	}
	for range 600 {
		p.c.mu.Lock()
		live := t.live
		p.c.mu.Unlock()
		if !live {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	p.c.mu.Lock()
	exit, log, kind, id, user := t.exit, append([]string(nil), t.log...), t.kind, t.id, t.user
	p.c.mu.Unlock()
	var out []string
	if exit != e.Task.Exitstatus {
		out = append(out, fmt.Sprintf("task %s %s: got %q, want %q", kind, id, exit, e.Task.Exitstatus))
	}
	if kind != e.Task.Type || id != e.Task.ID || user != e.Task.User {
		out = append(out, fmt.Sprintf("task: got %s %s %s, want %s %s %s", kind, id, user, e.Task.Type, e.Task.ID, e.Task.User))
	}
	if a, b := logText(log), logText(e.Task.Log); a != b {
		out = append(out, fmt.Sprintf("log of %s %s:\n got %q\nwant %q", kind, id, log, e.Task.Log))
	}
	p.count(e.Step, out)
}

var figures = regexp.MustCompile(`\d[\d,.]*`)

// logText is a log without the figures that a copy measures, and with the
// three host keys in one order.
func logText(lines []string) string {
	var out, keys []string
	for _, l := range lines {
		l = keyText.ReplaceAllString(uuidText.ReplaceAllString(l, "UUID"), "KEY")
		for _, p := range []string{"Number of ", "Total ", "Literal data", "Matched data", "File list", "sent ", "total size"} {
			if strings.HasPrefix(l, p) {
				l = figures.ReplaceAllString(l, "#")
			}
		}
		if strings.HasPrefix(l, "Creating SSH host key") || strings.HasPrefix(l, "done: KEY") {
			keys = append(keys, l)
			continue
		}
		out = append(out, l)
	}
	sort.Strings(keys)
	return strings.Join(append(out, keys...), "\n")
}

func TestComparisonNoticesWhatDiffers(t *testing.T) {
	parse := func(s string) any {
		var v any
		if err := json.Unmarshal([]byte(s), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	const path, body = "/api2/json/nodes/pve/lxc/1/config", `{"data":{"cores":1,"lock":"disk","digest":"a","net0":"name=eth0,hwaddr=BC:24:11:00:00:01"}}`
	ok := 200
	for ours, same := range map[string]bool{
		body: true,
		`{"data":{"cores":1,"lock":"disk","digest":"b","net0":"name=eth0,hwaddr=BC:24:11:00:00:02"}}`:       true,
		`{"data":{"cores":2,"lock":"disk","digest":"a","net0":"name=eth0,hwaddr=BC:24:11:00:00:01"}}`:       false,
		`{"data":{"cores":"1","lock":"disk","digest":"a","net0":"name=eth0,hwaddr=BC:24:11:00:00:01"}}`:     false,
		`{"data":{"cores":1,"digest":"a","net0":"name=eth0,hwaddr=BC:24:11:00:00:01"}}`:                     false,
		`{"data":{"cores":1,"lock":"disk","digest":"a","x":1,"net0":"name=eth0,hwaddr=BC:24:11:00:00:01"}}`: false,
		`{"data":{"cores":1,"lock":"disk","digest":"a","net0":"name=eth1,hwaddr=BC:24:11:00:00:01"}}`:       false,
		`{"data":null}`: false,
	} {
		p := &replay{t: t, same: map[string]string{}, known: map[string]bool{}}
		e := &entry{Method: "GET", Path: path, Status: &ok, Reason: "OK", Body: parse(body)}
		if d := p.compare(e, got{code: 200, reason: "OK", body: parse(ours)}); (len(d) == 0) != same {
			t.Errorf("%s: differences: got %v, want none: %t", ours, d, same)
		}
		if d := p.compare(e, got{code: 200, reason: "Fine", body: parse(body)}); len(d) == 0 {
			t.Error("another reason phrase: got no difference")
		}
	}
}

package fleet

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the stories with what happens now")

// TestStories plays the transcripts of testdata/stories. See the README there.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/stories/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := play(string(text))
			if err != nil {
				t.Fatalf("%s: %v\n%s", file, err, got)
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(string(text), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("%s (-written +played):\n%s", file, diff)
			}
		})
	}
}

const mark = "  > " // begins what the story tells; all else is the script

// player plays one story.
type player struct {
	*world
	out   []string
	fates []fated
}

// fated is what the story says of a coming action.
type fated struct {
	kind Kind
	how  fate
}

// play runs the script of a story and returns it with what happens.
func play(text string) (string, error) {
	p := &player{world: newWorld()}
	p.log = func(s string) { p.out = append(p.out, mark+s) }
	p.fate = p.next
	lines := slices.DeleteFunc(strings.Split(strings.TrimRight(text, "\n"), "\n"), func(l string) bool { return strings.HasPrefix(l, mark) })
	for n, line := range lines {
		if err := p.line(line); err != nil {
			return strings.Join(p.out, "\n"), fmt.Errorf("line %q: %w", lines[n], err)
		}
	}
	return strings.Join(p.out, "\n") + "\n", nil
}

// line plays one line of the script: at a time, or before the story begins.
func (p *player) line(line string) error {
	words := strings.Fields(line)
	if len(words) == 0 || words[0] == "#" {
		p.out = append(p.out, line)
		return nil
	}
	at, err := time.ParseDuration(words[0])
	if err != nil {
		p.out = append(p.out, line)
		return p.do(words)
	}
	if err := p.until(p.begin.Add(at)); err != nil {
		return err
	}
	p.out = append(p.out, line)
	if err := p.do(words[1:]); err != nil {
		return err
	}
	if err := p.pass(); err != nil {
		return err
	}
	if !p.wake.IsZero() {
		p.out = append(p.out, mark+"wake at "+p.wake.Sub(p.begin).String())
	}
	return nil
}

func (p *player) next(k Kind, _ *Runner) fate {
	for i, f := range p.fates {
		if f.kind == k {
			p.fates = slices.Delete(p.fates, i, i+1)
			return f.how
		}
	}
	return well
}

// do plays one statement.
func (p *player) do(words []string) error {
	verbs := map[string]func([]string) error{
		"pool": p.setPool, "remove": p.removePool, "node": p.setNode, "template": p.setTemplate, "limits": p.setLimits,
		"job": p.setJob, "runner": p.setRunner, "next": p.setFate, "hold": p.setHold, "looks": p.setLooks,
		"look": func([]string) error { p.look(); return nil }, "lasts": p.setDuration,
		"wait": func([]string) error { return nil }, "rolling": p.setRolling, "broken": p.setBroken, "order": p.setOrder, "rollout": p.sayRollout, "listens": p.setListen, "explain": p.sayWhy, "crash": p.crash, "secretly": p.secretly, "blocked": p.sayBlocked,
	}
	verb := verbs[words[0]]
	if verb == nil {
		return fmt.Errorf("no such statement")
	}
	return verb(words[1:])
}

// pairs splits "key=value" words.
func pairs(words []string, set func(key, value string) error) error {
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		if err := set(key, value); err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
	}
	return nil
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

func span(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(err)
	}
	return d
}

func ref(s string) Ref {
	family, version, _ := strings.Cut(s, "@")
	return Ref{family, version}
}

func (p *player) setPool(words []string) error {
	i := slices.IndexFunc(p.want.Pools, func(q Pool) bool { return q.Name == words[0] })
	if i < 0 {
		i = len(p.want.Pools)
		p.want.Pools = append(p.want.Pools, Pool{
			Name: words[0], Scope: "acme", Labels: []string{"linux"}, Template: Ref{Family: "ubuntu"}, Max: 10,
			Timeouts: Timeouts{Clone: time.Minute, Launch: 30 * time.Second, Register: 30 * time.Second, Idle: 5 * time.Minute, Job: time.Hour},
		})
	}
	q := &p.want.Pools[i]
	return pairs(words[1:], func(key, v string) error {
		switch key {
		case "scope":
			q.Scope = Scope(v)
		case "labels":
			q.Labels = strings.Split(v, ",")
		case "template":
			q.Template = ref(v)
		case "nodes":
			q.Nodes = strings.Split(v, ",")
		case "spare":
			q.Spare = number(v)
		case "max":
			q.Max = number(v)
		case "warm":
			q.Warm = number(v)
		case "warm-life":
			q.Timeouts.Warm = span(v)
		case "window":
			q.Schedules = append(q.Schedules, warmTime(v))
		case "per-node":
			q.PerNode = number(v)
		case "memory":
			q.Size.MemoryMiB = number(v)
		case "cores":
			q.Size.Cores = number(v)
		case "reserve":
			q.Reserve.MemoryMiB = number(v)
		case "reserve-storage":
			q.Reserve.StorageMiB = number(v)
		case "reserve-cores":
			q.Reserve.Cores = number(v)
		case "egress":
			q.Egress.Policy = Policy(slices.Index(policyNames[:], v))
		case "disk":
			q.Size.DiskMiB = number(v)
		case "env":
			q.Env = nil
			if v != "" {
				q.Env = Env{"HTTP_PROXY": v}
			}
		case "pack":
			q.Pack = v != "no"
		case "drained":
			q.Drained = v != "no"
		case "public":
			q.Access.Public = v == "yes"
		case "forks":
			q.Access.Forks = v == "yes"
		case "repos":
			q.Access.Repos = strings.Split(v, ",")
		case "events":
			q.Access.Events = strings.Split(v, ",")
		case "workflows":
			q.Access.Workflows = strings.Split(v, ",")
		case "idle":
			q.Timeouts.Idle = span(v)
		case "job":
			q.Timeouts.Job = span(v)
		default:
			return fmt.Errorf("no such key")
		}
		return nil
	})
}

// warmTime reads "09:30+2h=3": every day from then on, so long, so many.
func warmTime(s string) Schedule {
	hours, n, _ := strings.Cut(s, "=")
	return Schedule{hoursOf(hours), number(n)}
}

// hoursOf reads "09:30+2h": every day from then on, so long.
func hoursOf(s string) Window {
	from, length, _ := strings.Cut(s, "+")
	hour, minute, _ := strings.Cut(from, ":")
	return Window{
		Days: [7]bool{true, true, true, true, true, true, true}, For: span(length),
		From: time.Duration(number(hour))*time.Hour + time.Duration(number(minute))*time.Minute,
	}
}

func (p *player) removePool(words []string) error {
	p.want.Pools = slices.DeleteFunc(p.want.Pools, func(q Pool) bool { return q.Name == words[1] })
	return nil
}

func (p *player) setNode(words []string) error {
	i := slices.IndexFunc(p.nodes, func(n Node) bool { return n.Name == words[0] })
	if i < 0 {
		p.nodes = append(p.nodes, Node{Name: words[0], Online: true, Host: slices.Contains(words, "host")})
		return nil
	}
	if words[1] == "host" {
		p.nodes[i].Host, p.nodes[i].Away, p.nodes[i].Lone = true, time.Time{}, false
		return nil
	}
	if words[1] == "hostless" {
		p.nodes[i].Host, p.nodes[i].Away, p.nodes[i].Lone = false, p.now, true
		return nil
	}
	if strings.Contains(words[1], "=") {
		n := &p.nodes[i]
		return pairs(words[1:], func(key, v string) error {
			if flag := map[string]*bool{"frail": &n.Frail, "blind": &n.Blind}[key]; flag != nil {
				*flag = v == "1"
				return nil
			}
			if key == "store" { // "local-zfs,5000" or "ceph,5000,shared"
				store := strings.Split(v, ",")
				n.Stores = []Store{{Name: store[0], FreeMiB: number(store[1]), Shared: len(store) > 2, AsOf: p.now}}
				return nil
			}
			at := map[string]*int{"memory": &n.Total.MemoryMiB, "cores": &n.Total.Cores, "used": &n.Used.MemoryMiB}[key]
			if at == nil {
				return fmt.Errorf("no such key")
			}
			*at = number(v)
			return nil
		})
	}
	p.nodes[i].Online, p.nodes[i].Down = words[1] == "online", words[1] == "down"
	for _, r := range p.runners {
		if r.Node == words[0] && (words[1] == "unseen" || words[1] == "down") {
			r.Container = Unseen
		}
	}
	return nil
}

func (p *player) setTemplate(words []string) error {
	id := VMID(number(words[0]))
	p.templates = slices.DeleteFunc(p.templates, func(t Template) bool { return t.VMID == id })
	if words[1] != "removed" {
		t := Template{VMID: id, Ref: ref(words[1]), Node: words[2], Storage: "local-zfs", Locked: slices.Contains(words, "locked"), Copy: slices.Contains(words, "copy"), NoEnv: slices.Contains(words, "noenv")}
		for _, w := range words[3:] {
			if size, ok := strings.CutPrefix(w, "full="); ok {
				t.Full, t.DiskMiB = true, number(size)
			}
			if size, ok := strings.CutPrefix(w, "disk="); ok {
				t.DiskMiB = number(size)
			}
			if storage, ok := strings.CutPrefix(w, "storage="); ok {
				t.Storage = storage
			}
			if b, ok := strings.CutPrefix(w, "build="); ok {
				t.Build = b
			}
			if why, ok := strings.CutPrefix(w, "outdated="); ok {
				t.Outdated = strings.ReplaceAll(why, "_", " ")
			}
		}
		p.templates = append(p.templates, t)
	}
	return nil
}

func (p *player) setLimits(words []string) error {
	l := &p.want.Limits
	return pairs(words, func(key, v string) error {
		at := map[string]*int{"max": &l.Max, "per-node": &l.PerNode, "node-tasks": &l.NodeTasks, "store-tasks": &l.StoreTasks}[key]
		if at == nil {
			return fmt.Errorf("no such limit")
		}
		*at = number(v)
		return nil
	})
}

func (p *player) setLooks(words []string) error {
	p.looks = span(words[1])
	p.look()
	p.keepLooking()
	return nil
}

func (p *player) setDuration(words []string) error {
	at := map[string]*time.Duration{
		"clone": &p.took.clone, "launch": &p.took.launch, "listen": &p.took.listen,
		"deregister": &p.took.deregister, "destroy": &p.took.destroy, "exit": &p.took.exit,
	}[words[0]]
	*at = span(words[1])
	return nil
}

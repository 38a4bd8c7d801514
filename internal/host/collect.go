//go:build linux

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Bounds of what is collected of one boot.
const (
	collectBytes = 512 << 10
	collectFile  = 128 << 10 // the end of one file
	collectFiles = 24
	diagEntries  = 256
)

// exitFile says how the runner ended. The guest leaves it on disk and in memory
// (scripts/guest/files/ended).
const exitFile = "dayfly/exit.json"

// left are the files that a boot leaves, below its /run or its root. A
// directory stands for the files in it.
var left = []struct {
	run  bool
	path string
}{
	{true, exitFile}, {false, "var/lib/" + exitFile}, {false, usedFile},
	{true, jobDir + "/started"}, {true, jobDir + "/completed"},
	{false, "var/lib/dayfly/journal.txt"}, {false, "opt/actions-runner/_diag"}, {false, "var/lib/dayfly/evidence"},
}

// collect reads what the boot has left so far. It never waits.
func (g *grip) collect(e *Evidence) {
	room := int64(collectBytes)
	for _, l := range left {
		dir, shown := g.root, "/"+l.path
		if l.run {
			g.findRun()
			dir, shown = g.run, "/run/"+l.path
		}
		if dir == nil {
			continue
		}
		names := []string{l.path}
		if base := path.Base(l.path); base == "_diag" || base == "evidence" {
			var err error
			if names, err = entries(dir, l.path, diagEntries); err != nil && !errors.Is(err, fs.ErrNotExist) {
				e.miss(shown, err)
			}
			for i := range names {
				names[i] = l.path + "/" + names[i]
			}
			slices.Reverse(names) // their names begin with what they are, then the time: newest first
		}
		for _, name := range names {
			g.take(e, l.run, name, &room)
		}
	}
	slices.SortFunc(e.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	e.Exit = e.exit()
}

// take adds one file, as much of it as there is room for.
func (g *grip) take(e *Evidence, run bool, name string, room *int64) {
	dir, shown := g.root, "/"+name
	if run {
		dir, shown = g.run, "/run/"+name
	}
	if len(e.Files) >= collectFiles || *room <= 0 {
		e.miss(shown, errors.New("there is too much"))
		return
	}
	data, size, err := tail(dir, name, min(*room, collectFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		e.miss(shown, err)
	default:
		*room -= int64(len(data))
		e.Files = append(e.Files, File{Path: printable(shown), Size: size, Data: data})
	}
}

// miss notes what is not collected. Names are the container's own: they are
// bounded and stripped of what a terminal would obey.
func (e *Evidence) miss(path string, err error) {
	if len(e.Missed) < collectFiles {
		var in *fs.PathError
		if errors.As(err, &in) {
			err = in.Err
		}
		e.Missed = append(e.Missed, fmt.Sprintf("%s: %v", printable(path), err))
	}
}

// evidence is what a boot has left so far, with what it used.
func (s *Server) evidence(g *grip) Evidence {
	e := Evidence{VMID: g.id, Name: g.name, Boot: g.boot, Files: []File{}, Missed: []string{}}
	e.Stats = s.sample(g)
	g.collect(&e)
	return e
}

// sample measures a held boot. What the kernel has already forgotten, it takes
// from the last time.
func (s *Server) sample(g *grip) Stats {
	now := s.measure(g.id)
	last := g.last
	now.Memory, now.CPU = max(now.Memory, last.Memory), max(now.CPU, last.CPU)
	now.Processes, now.OOMKills = max(now.Processes, last.Processes), max(now.OOMKills, last.OOMKills)
	g.usage(&now)
	g.last = now
	return now
}

// work reads what processes and hooks say. A container that never had a JIT config
// has no worker: none is looked for, which takes a look at each process, and what
// brings a config would wait for it.
func (s *Server) work(g *grip) (w Work, err error) {
	g.findRun()
	w = Work{Boot: g.boot, Taken: g.taken || exists(g.root, usedFile)}
	if g.run != nil {
		w.Taken = w.Taken || exists(g.run, jitFile) || exists(g.run, jobDir)
		w.Started, w.Completed = exists(g.run, jobDir+"/started"), exists(g.run, jobDir+"/completed")
	}
	if g.taken = w.Taken; g.taken {
		w.Worker, err = s.working(g.id)
	}
	return w, err
}

package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/host"
	"github.com/dayfly-ci/dayfly/internal/journal"
)

const (
	// collectBound is how long a container's end may wait for its evidence.
	collectBound = 5 * time.Second
	// keptMost bounds the runners whose evidence is kept; a root half bounds
	// that of each one.
	keptMost = 500
)

// collect keeps what a container that had a JIT config left, and says in the
// runner's timeline what that was, and how its process ended. Without it, all
// goes on.
func (d *Daemon) collect(ctx context.Context, r fleet.Runner) ([]journal.Event, int) {
	h := d.halves.on(r.Node)
	if h == nil || r.Launched.IsZero() && r.Started.IsZero() {
		return nil, 0
	}
	bound, cancel := context.WithTimeout(ctx, collectBound)
	defer cancel()
	e, err := h.client.Collect(bound, r.VMID)
	if errors.Is(err, fleet.ErrNotFound) {
		d.log.Debug("nothing to collect", "runner", r.Name, "err", err)
		return nil, 0 // its root half has been started since: nothing is left to see
	}
	if err != nil {
		d.log.Warn("nothing collected", "runner", r.Name, "vmid", int(r.VMID), "err", err)
		return []journal.Event{event(r, collected, "nothing: "+err.Error())}, 0
	}
	text := evidenceText(e)
	if d.cfg.Evidence != "" {
		dir := filepath.Join(d.cfg.Evidence, r.Name)
		if err := keep(dir, e); err != nil {
			d.log.Warn("evidence not kept", "runner", r.Name, "err", err)
			text += "; not kept: " + err.Error()
		} else {
			text += "; in " + dir
		}
		d.prune()
	}
	return []journal.Event{event(r, collected, text)}, exitCode(r, e.Exit)
}

// exitCode is the number in "exited 7: …", of a runner that had no job: a job
// may write there what it likes.
func exitCode(r fleet.Runner, text string) int {
	var code int
	if r.Job != 0 || !r.Took.IsZero() {
		return 0
	}
	if _, err := fmt.Sscanf(text, "exited %d", &code); err != nil {
		return 0
	}
	return code
}

// evidenceText says in one line what a container left.
func evidenceText(e host.Evidence) string {
	size := 0
	for _, f := range e.Files {
		size += len(f.Data)
	}
	parts := []string{"the runner " + cmp.Or(e.Exit, "left no word of how it ended")}
	if s := e.Stats; s.OOMKills > 0 {
		parts = append(parts, fmt.Sprintf("out of memory: %d processes killed", s.OOMKills))
	}
	if e.Stats.DiskFull {
		parts = append(parts, "disk full")
	}
	if s := e.Stats; s.Memory > 0 { // a node may not count it
		parts = append(parts, fmt.Sprintf("memory %d MiB", s.Memory>>20))
	}
	if s := e.Stats; s.CPU > 0 {
		parts = append(parts, fmt.Sprintf("CPU %s", s.CPU.Round(10*time.Millisecond)))
	}
	if s := e.Stats; s.Disk > 0 {
		parts = append(parts, fmt.Sprintf("disk %d MiB", s.Disk>>20))
	}
	parts = append(parts, fmt.Sprintf("%d files, %d KiB", len(e.Files), (size+1023)>>10))
	if len(e.Missed) > 0 {
		parts = append(parts, fmt.Sprintf("%d not taken", len(e.Missed)))
	}
	return strings.Join(parts, "; ")
}

// keep writes the evidence into a folder of its own. Names of files are ours:
// what they are called in the container is only in the summary.
func keep(dir string, e host.Evidence) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var errs []error
	for i, f := range e.Files {
		errs = append(errs, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d-%s", i, plain(f.Path))), f.Data, 0o600))
		e.Files[i].Data = nil
	}
	text, err := json.MarshalIndent(e, "", "  ")
	return errors.Join(append(errs, err, os.WriteFile(filepath.Join(dir, "summary.json"), append(text, '\n'), 0o600))...)
}

// plain makes a file's name of a path in a container.
func plain(path string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '_'
	}, filepath.Base(path))
	return name[max(0, len(name)-100):]
}

// prune removes the oldest evidence beyond keptMost runners.
func (d *Daemon) prune() {
	list, err := os.ReadDir(d.cfg.Evidence)
	if err != nil || len(list) <= keptMost {
		return
	}
	age := func(e os.DirEntry) time.Time {
		if info, err := e.Info(); err == nil {
			return info.ModTime()
		}
		return time.Time{}
	}
	slices.SortFunc(list, func(a, b os.DirEntry) int { return age(a).Compare(age(b)) })
	for _, e := range list[:len(list)-keptMost] {
		if _, ours := fleet.OwnedPool(e.Name(), []byte(d.cfg.Key.Reveal())); ours {
			_ = os.RemoveAll(filepath.Join(d.cfg.Evidence, e.Name()))
		}
	}
}

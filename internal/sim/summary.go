package sim

import (
	"fmt"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// Tally counts what happened in a world.
type Tally struct {
	Boots    int // containers started
	Ailing   int // of them with an ailment
	Restarts int // containers started a second time
	Smoked   int // smoke boots that came to their end
	Clones   int // containers made
	Faults   int // faults on an API or in a task
	TimedOut int // live jobs stopped at their hard timeout
	Killed   int // live jobs killed otherwise
	// Collisions are clones asked for while another one of the template ran;
	// Proxmox refuses them.
	Collisions int
}

// count changes the tally.
func (w *World) count(f func(*Tally)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.tally)
}

// Left is what is still there.
type Left struct {
	Containers    []int    // VMIDs, without templates
	Registrations []string // names
}

// Empty reports whether nothing is left.
func (l Left) Empty() bool { return len(l.Containers) == 0 && len(l.Registrations) == 0 }

// Left is the containers (other than templates) and registrations that exist,
// of those under watch: what others made does not count.
func (w *World) Left() Left {
	all := w.Proxmox.Containers()
	w.follow()
	var l Left
	w.mu.Lock()
	for _, k := range all {
		if !k.Template() && w.watched[w.made[k.VMID]] {
			l.Containers = append(l.Containers, k.VMID)
		}
	}
	w.mu.Unlock()
	for _, r := range w.GitHub.Runners("") {
		l.Registrations = append(l.Registrations, r.Name)
	}
	return l
}

// Summary is how a world went.
type Summary struct {
	Tally
	Jobs       int // queued, ever
	Served     int // ended as their own steps decided
	Cancelled  int
	Lost       int // ended because their runner was lost
	Pending    int // not ended
	JITMinted  int
	Left       Left
	Violations []string
}

// Summary sums the world up.
func (w *World) Summary() Summary {
	s := Summary{Violations: w.Violations(), Left: w.Left(), JITMinted: w.GitHub.JITMinted()}
	w.mu.Lock()
	s.Tally = w.tally
	w.mu.Unlock()
	for _, j := range w.GitHub.Jobs() {
		s.Jobs++
		switch {
		case j.Status != hub.StatusCompleted:
			s.Pending++
		case j.Lost:
			s.Lost++
		case j.Conclusion == hub.Cancelled:
			s.Cancelled++
		case j.Conclusion != hub.Skipped:
			s.Served++
		}
	}
	return s
}

func (s Summary) String() string {
	return fmt.Sprintf("jobs %d served %d cancelled %d lost %d pending %d, JIT configs %d, boots %d (%d ailing), "+
		"faults %d, killed %d, left %d containers %d registrations, violations %d",
		s.Jobs, s.Served, s.Cancelled, s.Lost, s.Pending, s.JITMinted, s.Boots, s.Ailing, s.Faults, s.Killed,
		len(s.Left.Containers), len(s.Left.Registrations), len(s.Violations))
}

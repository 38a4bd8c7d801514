//go:build linux

package host

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// repair runs the node's own tool on a container that a task has left. What is
// half-made may be in no resource pool and have no manifest yet: a clone joins
// its resource pool last (pve-container, API2/LXC.pm). Then the name that the
// caller journalled before the clone must be the container's, its manifest must
// be signed all the same or absent with the lock that says so.
func (s *Server) repair(ctx context.Context, id fleet.VMID, r Repair) error {
	c, err := s.repairable(id, r)
	if err != nil {
		return err
	}
	if s.boot(id) != "" {
		return fmt.Errorf("container %d runs: %w", id, fleet.ErrBusy)
	}
	if task := s.taskOf(id); task != "" {
		return fmt.Errorf("task %.100s may work on container %d: %w", task, id, fleet.ErrBusy)
	}
	if c.lock != "" {
		if err := s.pct(ctx, "unlock", id); err != nil {
			return err
		}
	}
	if r.Do == Remove {
		return s.pct(ctx, "destroy", id)
	}
	return nil
}

// leavings are the locks of what a task of ours leaves half-done.
var leavings = []string{"create", "destroyed", "disk"}

func (s *Server) repairable(id fleet.VMID, r Repair) (conf, error) {
	if r.Do != Unlock && r.Do != Remove {
		return conf{}, fmt.Errorf("repair %.20q: want %s or %s: %w", r.Do, Unlock, Remove, fleet.ErrInvalid)
	}
	if id < s.cfg.First || id > s.cfg.Last {
		return conf{}, fmt.Errorf("VMID %d is not in the range %d to %d: %w", id, s.cfg.First, s.cfg.Last, fleet.ErrDenied)
	}
	c, err := s.readConf(id)
	if err != nil {
		return c, err
	}
	m, err := fleet.ReadManifest(c.description, s.cfg.Key, id, c.name)
	ours := err == nil && m.Name == r.Name
	// A destroy replaces the whole configuration by this lock, the last thing
	// but one that it does: the range and the lock are all that is left.
	shell := c.lock == "destroyed" && c.name == "" && strings.TrimSpace(c.description) == ""
	switch {
	case c.template:
		return c, fmt.Errorf("%d is a template: %w", id, fleet.ErrDenied)
	case !ours && !shell:
		return c, fmt.Errorf("container %d is not runner %.80s: %w", id, r.Name, fleet.ErrDenied)
	case !shell && !slices.Contains(leavings, c.lock):
		if _, err := s.claim(id); err != nil { // whole, so it must be in its resource pool
			return c, err
		}
	}
	return c, nil
}

// pct runs one command of the node's tool on one container. No shell sees it,
// and nothing of a caller's is in it but the number.
func (s *Server) pct(ctx context.Context, command string, id fleet.VMID) error {
	ctx, cancel := context.WithTimeout(ctx, repairBound)
	defer cancel()
	argv := append(slices.Clone(s.cfg.PCT), command, strconv.Itoa(int(id)))
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	cmd.WaitDelay = time.Second
	var said bounded
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		words := bytes.Join(bytes.Fields(said.text), []byte(" "))
		return fmt.Errorf("pct %s %d: %w: %s", command, id, err, printable(string(words)))
	}
	s.log.Info("repaired", "vmid", int(id), "command", command)
	return nil
}

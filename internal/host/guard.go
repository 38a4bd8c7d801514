//go:build linux

package host

import (
	"context"
	"sync"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// guard is of which boots the packet filter's rules were seen in force: a warm
// container's config does not wait for what can be looked at before.
type guard struct {
	mu   sync.Mutex // held while rules are listed: who waits for it may see enough
	seen map[string]time.Time
}

// Rules that were seen count for a while: they end with the boot, unless
// somebody stops the firewall.
const (
	rulesKept  = 35 * time.Second
	rulesAgain = 30 * time.Second
)

// guarded names an interface of a container that no rule was seen to name.
func (s *Server) guarded(ctx context.Context, id fleet.VMID, interfaces []string) (missing string, err error) {
	boot := s.boot(id)
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	if at, seen := s.guard.seen[boot]; seen && time.Since(at) < rulesKept {
		return "", nil
	}
	return s.sight(ctx, boot, interfaces)
}

// sight looks at the rules, and takes note of what it sees for a boot.
func (s *Server) sight(ctx context.Context, boot string, interfaces []string) (missing string, err error) {
	missing, err = s.unshielded(ctx, interfaces)
	switch {
	case err != nil || missing != "":
		delete(s.guard.seen, boot)
	case boot != "":
		if s.guard.seen == nil {
			s.guard.seen = map[string]time.Time{}
		}
		s.guard.seen[boot] = time.Now()
	}
	return missing, err
}

// lookAhead looks at the rules of a boot as long as it waits for a config. A
// container that boots for a job is left alone in its first second: its config is
// on its way, and listing rules holds up the making of its network.
func (s *Server) lookAhead(ctx context.Context, r Running) {
	for nap := 4 * s.cfg.FirewallNap; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(nap):
		}
		c, m, err := s.admit(r.VMID)
		if s.boot(r.VMID) != r.Boot || err != nil || m.Launched || len(c.firewall) == 0 {
			return
		}
		s.guard.mu.Lock()
		missing, err := s.sight(ctx, r.Boot, c.firewall)
		s.guard.mu.Unlock()
		if nap = min(2*nap, rulesAgain); err == nil && missing == "" {
			nap = rulesAgain
		}
	}
}

// forget lets go of what was seen for a boot that is over.
func (s *Server) forget(boot string) {
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	delete(s.guard.seen, boot)
}

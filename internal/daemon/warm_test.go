package daemon_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim"
)

// atOnce is a pool with a warm container that rolls without smoke boots and
// canaries.
func atOnce(failures int) string {
	return fmt.Sprintf(onePool, fmt.Sprintf(`scale {
    max   = 4
    spare = 1
    warm  = 1
  }
  rollout {
    smoke        = 0
    bake         = "1h"
    max_infra_failures = %d
    canary { jobs = 0 }
  }`, failures))
}

// TestWarmContainersThatEndAreNotBootedForEver: of a version whose containers
// end while they wait, no job's runner has to show that it is no good.
func TestWarmContainersThatEndAreNotBootedForEver(t *testing.T) {
	halfStory(t, usual, atOnce(2), func(p *play) {
		p.warmed(1)
		p.template(9001, next, string(sim.CrashesAtBoot))
		p.until(5*time.Minute, "the version is bad", func() bool { return len(p.rollout().Bad) == 1 })
		p.comes(fleet.Settled, 5*time.Minute)
		if longest := p.serves(3); longest > 30*time.Second {
			t.Errorf("a job waited %s", longest)
		}
		if r := p.rollout(); r.Stable.Version == next || r.Trial.Jobs != 0 {
			t.Errorf("%s is stable, %d jobs ran on the broken one", r.Stable, r.Trial.Jobs)
		}
	})
}

// TestWarmContainersThatEndAreHeld: where no verdict stops them, each boot waits
// longer than the one before.
func TestWarmContainersThatEndAreHeld(t *testing.T) {
	halfStory(t, usual, atOnce(100), func(p *play) {
		p.warmed(1)
		before := p.w.Summary().Boots
		p.template(9001, next, string(sim.CrashesAtBoot))
		time.Sleep(20 * time.Minute)
		if n := p.w.Summary().Boots - before; n < 3 || n > 40 {
			t.Errorf("%d boots in 20 minutes, want a few", n)
		}
	})
}

package daemon_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// agedPools are a pool on a template that GitHub ends soon, and one on a
// template that is old, which rolls to another one at once.
const agedPools = `
dayfly { schema = 1 }
template "ends" { family = "debian-13" }
template "old" { family = "alpine" }
defaults {
  github { org = "acme" }
  scale { max = 2 }
  rollout {
    smoke = 0
    wait  = "0s"
    bake  = "0s"
    canary { jobs = 0 }
  }
}
pool "ends" {
  template = template.ends
  labels   = ["ends"]
}
pool "old" {
  template = template.old
  labels   = ["old"]
}
`

// TestAgeOfTemplatesIsToldAndWarnedAbout: by their own date, and by what GitHub
// says of their runner, until the pool is on another one, or gone.
func TestAgeOfTemplatesIsToldAndWarnedAbout(t *testing.T) {
	story(t, usual, one(1), func(p *play) {
		ends := time.Now().Add(9 * 24 * time.Hour).Truncate(time.Second)
		p.w.GitHub.SetVersions(hub.Versions{Ends: map[string]time.Time{"2.334.0": ends}})
		p.runner = "2.334.0"
		p.templateOf("debian-13", "", 9100, "1", "")
		p.runner, p.built = "", time.Now().Add(-46*24*time.Hour)
		p.templateOf("alpine", "", 9200, "1", "")
		p.setPools(agedPools)
		const end, old = "pool ends: template debian-13@1 has runner 2.334.0, which GitHub gives no jobs from ", "pool old: template alpine@1 is 46 days old, more than 45"
		p.until(10*time.Minute, "both are warned about", func() bool {
			a, first := p.troubled(end + ends.UTC().Format(time.DateOnly))
			_, second := p.troubled(old)
			return first && second && strings.Contains(a.Hint, "bake a template with the newest runner")
		})
		var told []string
		for _, s := range p.status().Templates {
			if s.VMID == 9100 && s.Ends.Equal(ends) && s.Runner == "2.334.0" || s.VMID == 9200 && s.Built.Equal(p.built) && s.Ends.IsZero() {
				told = append(told, s.Version)
			}
		}
		if strings.Join(told, " ") != "debian-13@1 alpine@1" {
			p.t.Errorf("the status tells of %q in %+v", told, p.status().Templates)
		}
		p.built = time.Now()
		p.templateOf("alpine", "", 9201, "2", "")
		p.until(20*time.Minute, "the pool is on another one", func() bool { _, ok := p.troubled(old); return !ok })
		if _, ok := p.troubled(end); !ok {
			p.t.Error("the other warning is over as well")
		}
		p.setPools(one(1))
		p.until(10*time.Minute, "the pool is gone", func() bool { _, ok := p.troubled(end); return !ok })
	})
}

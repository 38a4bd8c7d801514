package daemon_test

import (
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// proxied is the pool of onePool with an environment and a spare.
func proxied(proxy string) string {
	return one(4, "env = { HTTPS_PROXY = \""+proxy+"\", NO_PROXY = \"localhost, it's #1; 100 %\" }\n")
}

// TestEnvironmentComesWithTheConfig by both ways, with the values that are in
// force when the container is launched, and none where the pool has none.
func TestEnvironmentComesWithTheConfig(t *testing.T) {
	for way, halves := range map[string][]string{"env": nil, "host": {"pve"}} {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlay(t, usual, strings.Replace(proxied("http://old:1"), "scale { max = 4 }", "scale {\n max = 4\n spare = 1\n }", 1))
				p.halves = halves
				p.start()
				defer func() { p.stop() }()
				p.until(time.Minute, "a spare", func() bool { return len(p.containers()) == 1 })
				time.Sleep(time.Minute)
				spare := p.containers()
				p.setPools(strings.Replace(proxied("http://new:2"), "scale { max = 4 }", "scale {\n max = 4\n spare = 1\n }", 1))
				time.Sleep(2 * time.Minute)
				id := p.job("acme/app", 5*time.Minute)
				p.began(id, time.Minute)
				if got, want := p.w.Env(spare[0]), map[string]string{"HTTPS_PROXY": "http://new:2", "NO_PROXY": "localhost, it's #1; 100 %"}; !maps.Equal(got, want) {
					t.Errorf("the spare's job has %v, want %v", got, want)
				}
				p.setPools(one(4))
				p.until(10*time.Minute, "the job ends", p.over)
				p.until(10*time.Minute, "nothing is left", func() bool { return p.w.Left().Empty() })
				id = p.job("acme/app", 5*time.Minute)
				p.began(id, time.Minute)
				if got := p.w.Env(p.containers()[0]); len(got) != 0 {
					t.Errorf("without env the job has %v", got)
				}
				p.served(20 * time.Minute)
				p.check()
				if t.Failed() {
					t.Log(p.logs.String())
				}
			})
		})
	}
}

// TestGuestWithoutEnvServesOtherPoolsOnly: a template of the contract before is
// used as long as its pool asks for no environment, and then no more.
func TestGuestWithoutEnvServesOtherPoolsOnly(t *testing.T) {
	info := proxmox.TemplateInfo{Schema: 1, Family: "debian-13", Version: "2.335.1-1", State: "ready", Runner: "2.335.1", Contract: "1"}
	debian := func(files string) string { return strings.Replace(files, `"ubuntu-24.04"`, `"debian-13"`, 1) }
	synctest.Test(t, func(t *testing.T) {
		p := newPlay(t, usual, debian(proxied("http://x:1")))
		p.w.Proxmox.AddTemplate(pve.Template{
			VMID: 9100, ResourcePool: pve.LabTemplates, Storage: pve.LabStorage,
			Config: map[string]string{"hostname": "debian", "description": info.Describe(), "features": "nesting=1"},
		})
		p.start()
		defer func() { p.stop() }()
		id := p.job("acme/app", 10*time.Second)
		time.Sleep(10 * time.Minute)
		if why := p.why(id); !strings.Contains(why, "debian-13@2.335.1-1 is not used: its guest is of a release without env") {
			t.Errorf("the job waits because %q", why)
		}
		p.made(0, 0)
		p.setPools(debian(one(4)))
		p.served(10 * time.Minute)
		p.succeeded(id)
		p.check()
	})
}

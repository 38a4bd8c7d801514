package daemon_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestFailingNodeProvesItselfBySmokeBoot: after three failures in a row a node
// is left alone, and then no job meets it until a smoke boot passes there. One
// that fails has it left alone for longer.
func TestFailingNodeProvesItselfBySmokeBoot(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		for range 4 {
			p.w.Proxmox.FailNext("vzstart", "lxc-start exited with 1")
		}
		id := p.job("acme/app", 10*time.Second)
		p.until(5*time.Minute, "the node is left alone", func() bool { _, ok := p.troubled("3 failures in a row"); return ok })
		p.until(5*time.Minute, "its first smoke boot fails", func() bool { _, ok := p.troubled("4 failures in a row"); return ok })
		tr, _ := p.troubled("4 failures in a row")
		if wait := time.Until(tr.Next); wait < 80*time.Second || wait > 2*time.Minute {
			p.t.Errorf("after the failed smoke boot it is left alone for %s, want about two minutes", wait)
		}
		if n := p.w.Summary().Smoked; n != 0 {
			p.t.Errorf("%d smoke boots so far, want none that started", n)
		}
		p.served(10 * time.Minute)
		p.succeeded(id)
		if n := p.w.Summary().Smoked; n != 1 {
			p.t.Errorf("%d smoke boots, want one that proves the node", n)
		}
		if tr, ok := p.troubled("in a row"); ok {
			p.t.Errorf("a trouble that is over is still shown: %+v", tr)
		}
		if s := p.logs.String(); strings.Count(s, "smoke boot: node pve is to show that it works again") < 2 {
			p.t.Error("the reason of the smoke boots is not in the log")
		}
	})
}

// TestFailingNodeIsLeftAloneAfterARestart: a daemon that is killed again and
// again does not begin anew with a node that starts nothing, and a smoke boot
// still has to show that it works.
func TestFailingNodeIsLeftAloneAfterARestart(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		var starts atomic.Int64
		start := calls("POST", "/status/start")
		p.govern(func(r *http.Request) fate {
			if start(r) {
				starts.Add(1)
			}
			return arrive
		})
		for range 4 {
			p.w.Proxmox.FailNext("vzstart", "lxc-start exited with 1")
		}
		id := p.job("acme/app", 10*time.Second)
		p.until(5*time.Minute, "its smoke boot fails", func() bool { _, ok := p.troubled("4 failures in a row"); return ok })
		before, _ := p.troubled("4 failures in a row")
		tried := starts.Load()
		for range 3 {
			p.crash()
			p.start()
			time.Sleep(15 * time.Second)
		}
		after, ok := p.troubled("4 failures in a row")
		if !ok || !after.Next.Equal(before.Next) || !after.Since.Equal(before.Since) || after.What != before.What {
			p.t.Errorf("after three starts: %+v, want %+v", after, before)
		}
		if n := starts.Load() - tried; tried == 0 || n != 0 {
			p.t.Errorf("%d containers were started on the node that is to be left alone", n)
		}
		p.served(10 * time.Minute)
		p.succeeded(id)
		if n := p.w.Summary().Smoked; n != 1 {
			p.t.Errorf("%d smoke boots, want one that proves the node", n)
		}
		p.crash()
		p.start()
		time.Sleep(time.Minute)
		if tr, ok := p.troubled("in a row"); ok {
			p.t.Errorf("a trouble that is over comes back with a start: %+v", tr)
		}
	})
}

package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// minDayJobs is what a day's events need.
const minDayJobs = 16

var linuxJob = []string{"self-hosted", "linux"}

// queue queues a job that runs for up to a second or so.
func (d *demo) queue(labels ...string) hub.JobID {
	if len(labels) == 0 {
		labels = linuxJob
	}
	repo := demoRepos[d.rng.IntN(len(demoRepos))]
	return d.world.GitHub.QueueJob(hub.NewJob{Repo: repo, Labels: labels, Duration: d.upTo(200*time.Millisecond, 1200*time.Millisecond)})
}

func (d *demo) upTo(least, most time.Duration) time.Duration {
	return least + time.Duration(d.rng.Int64N(int64(most-least)))
}

// day plays the day's events in turn.
func (d *demo) day(ctx context.Context) error {
	spare := d.o.jobs - minDayJobs
	burst := 2 + spare - spare/6
	for _, event := range []func(context.Context) error{
		d.dawn,
		d.newVersion,
		func(ctx context.Context) error { return d.lone(ctx, 1+spare/6) },
		d.misdelivered,
		d.cancelled,
		d.stolen,
		d.rolledOut,
		d.brokenClone,
		d.silentRunner,
		d.badVersion,
		d.rolledBack,
		func(ctx context.Context) error { return d.rush(ctx, burst) },
		func(ctx context.Context) error { return d.kill(ctx, 3) },
	} {
		if err := event(ctx); err != nil {
			return err
		}
	}
	return d.finished(ctx)
}

// finished waits until every job has ended.
func (d *demo) finished(ctx context.Context) error {
	return d.wait(ctx, 3*time.Minute, "every job has ended", func() bool { return d.world.GitHub.Pending() == 0 })
}

// ended waits until one job has ended.
func (d *demo) ended(ctx context.Context, id hub.JobID) error {
	return d.wait(ctx, time.Minute, fmt.Sprintf("job %d has ended", id), func() bool {
		j, _ := d.world.GitHub.Job(id)
		return j.Status == hub.StatusCompleted
	})
}

// dawn waits for the spares.
func (d *demo) dawn(ctx context.Context) error {
	d.teller.say("before dawn: the spares of the pools are cloned")
	return d.spared(ctx, "", daySpares)
}

// daySpares is how many spares the pools of the day have.
const daySpares = 3

// spared waits until n spares are there, all of one template when it is
// given.
func (d *demo) spared(ctx context.Context, template string, n int) error {
	return d.wait(ctx, time.Minute, "the spares are there", func() bool {
		s, err := d.admin.Status(ctx)
		if err != nil || len(s.Pools) == 0 || spares(s) != n || len(s.Runners) != n {
			return false
		}
		return template == "" || !slices.ContainsFunc(s.Runners, func(r daemon.RunnerStatus) bool { return r.Template != template })
	})
}

// lone queues jobs one by one: each finds a spare.
func (d *demo) lone(ctx context.Context, n int) error {
	d.teller.say("morning: %s, one by one; each finds a stopped container waiting", plural(n, "job"))
	for range n {
		if err := d.ended(ctx, d.queue()); err != nil {
			return err
		}
		if err := d.pause(ctx, d.upTo(0, 400*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// spares counts the stopped containers that wait for a job.
func spares(s daemon.Status) int {
	n := 0
	for _, p := range s.Pools {
		n += p.Phases["spare"]
	}
	return n
}

// misdelivered is what GitHub's webhooks do: get lost, come twice, come late.
func (d *demo) misdelivered(ctx context.Context) error {
	d.teller.say("a webhook is lost: the poll of queued jobs finds the job")
	d.world.GitHub.NextWebhook(hub.Lose)
	if err := d.ended(ctx, d.queue()); err != nil {
		return err
	}
	d.teller.say("a webhook comes twice: the second one changes nothing")
	d.world.GitHub.NextWebhook(hub.Double)
	if err := d.ended(ctx, d.queue()); err != nil {
		return err
	}
	d.teller.say("a job is over before its \"queued\" comes: no container is spent on it")
	d.world.GitHub.NextWebhook(hub.Late(2 * time.Second))
	id := d.queue()
	d.world.GitHub.CancelJob(id)
	return d.pause(ctx, 2500*time.Millisecond)
}

// cancelled cancels a job while its container boots: another job takes the
// runner.
func (d *demo) cancelled(ctx context.Context) error {
	d.teller.say("a job is cancelled while its container boots: the runner takes the next one")
	started := d.starts()
	id := d.queue()
	if err := d.wait(ctx, time.Minute, "its container starts", func() bool { return d.starts() > started }); err != nil {
		return err
	}
	d.world.GitHub.CancelJob(id)
	if err := d.pause(ctx, 100*time.Millisecond); err != nil {
		return err
	}
	return d.ended(ctx, d.queue())
}

// starts counts the containers started so far.
func (d *demo) starts() int {
	n := 0
	for _, e := range d.world.Proxmox.History() {
		if e.Kind == "start" {
			n++
		}
	}
	return n
}

// stolen lets a runner of another program take a job: a runner made for it is
// left for the next.
func (d *demo) stolen(ctx context.Context) error {
	d.teller.say("another program's runner takes a job that a container was started for")
	if err := d.steal(ctx, append([]string{"x64"}, linuxJob...)); err != nil {
		return fmt.Errorf("register the other runner: %w", err)
	}
	return d.ended(ctx, d.queue())
}

// brokenClone makes the next clone fail: another one is tried.
func (d *demo) brokenClone(ctx context.Context) error {
	d.teller.say("a clone fails: it is tried again, under another name")
	d.world.Proxmox.FailNext("vzclone", "clone failed: can't lock file '/var/lock/pve-manager/pve-storage-local-zfs' - got timeout")
	return d.ended(ctx, d.queue("self-hosted", "linux", "large"))
}

// silentRunner boots a container that never registers. It does not wait for
// the job: a new version comes in the meantime.
func (d *demo) silentRunner(ctx context.Context) error {
	d.teller.say("a container comes up and never registers: it is given up, another one takes over")
	boots := d.world.Summary().Boots
	d.world.SetFaults(sim.Faults{Guest: sim.GuestFaults{NeverRegisters: 1}})
	d.silent = d.queue("self-hosted", "linux", "large")
	err := d.wait(ctx, time.Minute, "it boots", func() bool { return d.world.Summary().Boots > boots })
	d.world.SetFaults(sim.Faults{})
	return err
}

// rush queues many jobs at once; a commit makes room for them.
func (d *demo) rush(ctx context.Context, n int) error {
	d.teller.say("noon: a burst of %s; the pool is full at 6 containers", plural(n, "job"))
	for range n {
		d.queue()
	}
	if err := d.pause(ctx, 700*time.Millisecond); err != nil {
		return err
	}
	d.teller.say("git commit: linux-x64 { scale { max = 12 } }")
	return d.push(ctx, "more room for linux-x64", map[string][]setting{
		"linux.hcl": {{path: []string{"pool linux-x64", "scale"}, name: "max", value: cty.NumberIntVal(12)}},
	})
}

// kill kills the daemon in the middle of work and starts it again.
func (d *demo) kill(ctx context.Context, n int) error {
	if err := d.finished(ctx); err != nil {
		return err
	}
	for range n {
		d.queue()
	}
	if err := d.pause(ctx, 150*time.Millisecond); err != nil {
		return err
	}
	d.teller.say("kill -9 of the daemon, with %s under way; it is started again", plural(d.world.GitHub.Pending(), "job"))
	if err := d.stopDaemon(syscall.SIGKILL); err != nil {
		return err
	}
	d.killed = time.Now()
	return d.startDaemon(ctx)
}

// evening drains the pools by a commit, so that nothing is left.
func (d *demo) evening(ctx context.Context) error {
	off := func(pool string) setting {
		return setting{path: []string{"pool " + pool}, name: "enabled", value: cty.False}
	}
	changes := map[string][]setting{
		"linux.hcl": {off("linux-x64"), off("linux-guarded"), off("linux-large")}, "release.hcl": {off("release")},
	}
	if d.real() {
		changes = map[string][]setting{"pools.hcl": {off("linux-x64")}}
	}
	d.teller.say("evening: git commit: enabled = false in every pool; the spares go")
	err := d.push(ctx, "drain everything", changes)
	if err != nil {
		return err
	}
	// What is left after this, the summary shows.
	_ = d.wait(ctx, time.Minute, "nothing is left", func() bool { return d.world.Left().Empty() && d.world.GitHub.Unsent() == 0 })
	return d.pause(ctx, 300*time.Millisecond)
}

// push commits and tells the daemon as GitHub does.
func (d *demo) push(ctx context.Context, message string, changes map[string][]setting) error {
	if _, err := d.repo.edit(ctx, message, changes); err != nil {
		return err
	}
	return d.pushed(ctx)
}

// pushed delivers the event of a push.
func (d *demo) pushed(ctx context.Context) error {
	body, err := json.Marshal(map[string]any{
		"ref": "refs/heads/main", "repository": map[string]any{"full_name": "acme/pools"},
	})
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, []byte(d.secret))
	mac.Write(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.webhook, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-GitHub-Event", "push")
	req.Header.Set("X-GitHub-Delivery", fmt.Sprintf("demo-push-%d", time.Now().UnixNano()))
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("deliver push: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("deliver push: %s", resp.Status)
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

func (d *demo) half() string { return filepath.Join(d.dir, "half.sock") }

// startHalf starts this same program as the node's root half. The daemon has
// made the key by which it knows the daemon's containers.
func (d *demo) startHalf(ctx context.Context) error {
	if err := os.Remove(d.half()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("start the root half: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start the root half: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(d.dir, "half.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start the root half: %w", err)
	}
	defer log.Close()
	half := d.again(self, log, "host")
	if err := half.Start(); err != nil {
		return fmt.Errorf("start the root half: %w", err)
	}
	d.rootHalf = half
	return d.wait(ctx, 20*time.Second, "the root half listens", func() bool {
		_, err := os.Stat(d.half())
		return err == nil
	})
}

// stopHalf ends the root half, by SIGKILL or as systemd does.
func (d *demo) stopHalf(sig os.Signal) error {
	half := d.rootHalf
	if half == nil {
		return nil
	}
	d.rootHalf = nil
	if err := half.Process.Signal(sig); err != nil {
		return fmt.Errorf("stop the root half: %w", err)
	}
	err := half.Wait()
	var exit *exec.ExitError
	if err == nil || sig == os.Kill && errors.As(err, &exit) {
		return nil
	}
	return fmt.Errorf("stop the root half: %w", err)
}

// strikes kills the daemon and the root half where it hurts most: each job is
// served once, and nothing is left, all the same.
func (d *demo) strikes(ctx context.Context) error {
	daemon := func() error { return d.stopDaemon(syscall.SIGKILL) }
	half := func() error { return d.stopHalf(syscall.SIGKILL) }
	both := func() error { return errors.Join(daemon(), half()) }
	revive := func(ctx context.Context) error {
		if d.rootHalf == nil {
			if err := d.startHalf(ctx); err != nil {
				return err
			}
		}
		if d.child == nil {
			return d.startDaemon(ctx)
		}
		return nil
	}
	for _, s := range []struct {
		whom   string
		launch bool // else a job runs
		strike func() error
	}{
		{"the daemon and the root half", false, both}, {"the daemon", true, daemon}, {"the root half", true, half},
	} {
		if err := d.struck(ctx, s.whom, s.launch, s.strike); err != nil {
			return err
		}
		if err := revive(ctx); err != nil {
			return err
		}
		if err := d.finished(ctx); err != nil {
			return err
		}
	}
	return nil
}

// struck queues a job and strikes when it runs, or when the JIT config for it
// has been minted and is not in its container yet.
func (d *demo) struck(ctx context.Context, whom string, launch bool, strike func() error) error {
	mints := d.world.GitHub.JITMinted()
	id := d.world.GitHub.QueueJob(hub.NewJob{Repo: demoRepos[2], Labels: linuxJob, Steps: []hub.Step{{Name: "wait", Run: "sleep 3"}}})
	what, when := "a job runs", func() bool {
		j, _ := d.world.GitHub.Job(id)
		return j.Status != hub.StatusQueued
	}
	if launch {
		what, when = "a container is launched", func() bool { return d.world.GitHub.JITMinted() > mints }
	}
	if err := d.wait(ctx, 2*time.Minute, what, when); err != nil {
		return err
	}
	d.teller.say("kill -9 of %s while %s", whom, what)
	return strike()
}

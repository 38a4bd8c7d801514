package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/github"
	"github.com/dayfly-ci/dayfly/internal/journal"
	"github.com/dayfly-ci/dayfly/internal/pools"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// parts are what a running daemon is made of.
type parts struct {
	journal       *journal.Journal
	daemon        *daemon.Daemon
	source        pools.Source
	public, admin net.Listener
	log           *slog.Logger
}

// open makes the parts. The journal comes first: its lock keeps a second
// daemon away from everything else.
func (c *config) open(ctx context.Context, log *slog.Logger) (p *parts, err error) {
	p = &parts{log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	dir := c.Daemon.StateDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return p, hinted{fmt.Errorf("make state folder: %w", err), "set daemon.state_dir to a folder that dayfly may write to"}
	}
	p.journal, err = journal.Open(ctx, filepath.Join(dir, "journal.db"), journal.Options{Log: log})
	if errors.Is(err, journal.ErrInUse) {
		return p, hinted{err, `stop the other one first ("systemctl stop dayfly"), or give this one its own daemon.state_dir`}
	}
	if err != nil {
		return p, stateHint(dir, err)
	}
	key, err := ownKey(ctx, p.journal, filepath.Join(dir, "instance.key"))
	if err != nil {
		return p, stateHint(dir, err)
	}
	if p.daemon, p.source, err = c.assemble(p.journal, key, log); err != nil {
		return p, err
	}
	p.public, p.admin, err = listen(c.Daemon.Listen, c.Daemon.AdminSocket)
	return p, err
}

// stateHint says what to do about a state folder that cannot be used: it may be
// full, or root may have run dayfly in it once.
func stateHint(dir string, err error) error {
	switch {
	case errors.Is(err, journal.ErrFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return hinted{err, fmt.Sprintf("free space on the disk of %s, the state folder", dir)}
	case errors.Is(err, fs.ErrPermission):
		return hinted{err, fmt.Sprintf("the user that dayfly runs as must own the state folder and what is in it: chown -R USER %s", dir)}
	}
	return err
}

// assemble makes the daemon and the clients it works with.
func (c *config) assemble(j *journal.Journal, key fleet.Secret, log *slog.Logger) (*daemon.Daemon, pools.Source, error) {
	px, err := proxmox.New(proxmox.Config{
		URL: c.Proxmox.URL, Token: c.Proxmox.Token, CA: c.Proxmox.CA, ServerName: c.Proxmox.ServerName,
		TemplatePool: c.Proxmox.TemplatePool, RunnerPool: c.Proxmox.RunnerPool,
		First: c.Proxmox.First, Last: c.Proxmox.Last, Key: key, Log: log,
	})
	if err != nil {
		return nil, nil, err
	}
	gh, err := github.New(github.Config{
		URL: c.GitHub.URL, App: c.GitHub.App, Key: c.GitHub.Key, Points: c.GitHub.Points, Log: log,
	})
	if err != nil {
		return nil, nil, err
	}
	halves, err := c.Host.clients()
	if err != nil {
		return nil, nil, err
	}
	source, every := c.Pools.source(gh)
	every.Jobs = c.GitHub.Every
	d, err := daemon.New(daemon.Config{
		Proxmox: px, GitHub: gh, Journal: j, Source: source, Reports: c.reports(), Hosts: halves, Key: key, Webhook: c.GitHub.WebhookSecret,
		First: c.Proxmox.First, Last: c.Proxmox.Last, Every: every, Evidence: filepath.Join(c.Daemon.StateDir, "evidence"), Version: thisVersion().Version, Log: log,
	})
	return d, source, err
}

// reports is where the pools come from, if that is at the same GitHub as the
// jobs.
func (c *config) reports() daemon.Reports {
	if c.Pools.Git == nil {
		return daemon.Reports{}
	}
	repo := hostedAt(c.Pools.Git.URL, c.GitHub.URL)
	return daemon.Reports{Repo: repo, Path: c.Pools.Git.Path}
}

// source is where the pools come from, and how often it is looked at.
func (c *poolsConfig) source(gh *github.Client) (pools.Source, daemon.Intervals) {
	if c.Git == nil {
		return pools.Dir(c.Dir), daemon.Intervals{}
	}
	git := pools.GitConfig{
		URL: c.Git.URL, Branch: c.Git.Branch, Path: c.Git.Path, Token: c.Git.Token, CA: c.Git.CAFile,
		SSHKey: c.Git.SSHKeyPath, KnownHosts: c.Git.KnownHostsFile, AllowRewrite: c.Git.AllowRewrite,
	}
	if c.Git.GitHubApp {
		git.App = gh.Contents(repoOf(c.Git.URL))
	}
	if v := c.Git.Verify; v != nil {
		git.Verify = pools.Verify{Mode: v.VerifyMode, Signers: v.Signers, Keyring: v.Keyring}
	}
	return pools.Git(git), daemon.Intervals{Pools: c.Git.Every}
}

// run serves until ctx ends or a part fails.
func (p *parts) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.daemon.Run(ctx) })
	g.Go(func() error { return serveHTTP(ctx, p.public, p.daemon.Public(), p.log) })
	g.Go(func() error { return serveHTTP(ctx, p.admin, p.daemon.Admin(), p.log) })
	g.Go(func() error { return supervised(ctx, p.daemon.Healthy, p.log) })
	return g.Wait()
}

// close releases what open took.
func (p *parts) close() error {
	for _, l := range []net.Listener{p.public, p.admin} {
		if l != nil {
			_ = l.Close() // mostly the server did
		}
	}
	if p.journal == nil {
		return nil
	}
	return p.journal.Close()
}

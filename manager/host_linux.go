package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sync/errgroup"

	"github.com/dayfly-ci/dayfly/internal/host"
)

// serveHost runs the root half that the configuration at path describes.
func (p *program) serveHost(ctx context.Context, path string) error {
	c, err := p.loadHost(path)
	if err != nil {
		return err
	}
	log := newLog(p.err, c.Daemon.Level, c.Daemon.LogFormat)
	key, err := c.halfKey(os.Getenv("CREDENTIALS_DIRECTORY"))
	if err != nil {
		return err
	}
	cfg := host.Node()
	cfg.Node, cfg.Version, cfg.Pool, cfg.Key, cfg.Log = c.Host.Name, thisVersion().Version, c.Proxmox.RunnerPool, key, log
	cfg.First, cfg.Last = c.Proxmox.First, c.Proxmox.Last
	for _, set := range []struct {
		to   *string
		from string
	}{{&cfg.PVE, c.Host.PVEDir}, {&cfg.Cgroup, c.Host.CgroupDir}} {
		if set.from != "" {
			*set.to = set.from
		}
	}
	if len(c.Host.PCT) > 0 {
		cfg.PCT = c.Host.PCT
	}
	s, err := host.New(cfg)
	if err != nil {
		return err
	}
	listeners, err := c.Host.listen(log)
	if err != nil {
		return err
	}
	log.Info("root half starts", "version", cfg.Version, "node", cfg.Node, "config", path)
	err = serveHalf(ctx, s, listeners, log)
	log.Info("root half stopped")
	return err
}

func serveHalf(ctx context.Context, s *host.Server, listeners []net.Listener, log *slog.Logger) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Run(ctx) })
	for _, l := range listeners {
		g.Go(func() error { return serveHTTP(ctx, l, s.Handler(), log) })
	}
	g.Go(func() error { return supervised(ctx, func(context.Context) error { return nil }, log) })
	return g.Wait()
}

// loadHost reads the configuration, and of its secrets those of the root half.
func (p *program) loadHost(path string) (*config, error) {
	c, diags, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	if !diags.list.HasErrors() {
		if s := c.hostSecret(); s.body != nil && s.chosen(diags) {
			s.read(diags, os.Getenv("CREDENTIALS_DIRECTORY"))
		}
	}
	if n := len(diags.list); n > 0 {
		if err := diags.write(p.err, styleOf(p.err)); err != nil {
			return nil, err
		}
		return nil, hinted{fmt.Errorf("configuration %s: %s", path, plural(n, "error")),
			fmt.Sprintf(`check it with "dayfly validate --config %s"`, path)}
	}
	return c, nil
}

// listen opens the Unix socket, or takes it from systemd, and the address for
// a daemon on another node, if there is one.
func (c *hostConfig) listen(log *slog.Logger) ([]net.Listener, error) {
	uid, gid, err := c.peer()
	if err != nil {
		return nil, err
	}
	given, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take socket from systemd: %w", err)
	}
	var local net.Listener
	for _, l := range given {
		if l != nil && l.Addr().Network() == "unix" {
			local = l
		}
	}
	if local == nil {
		if local, err = listenHost(c.Socket, gid); err != nil {
			return nil, err
		}
	}
	list := []net.Listener{host.Peers(local, log, 0, uid)}
	if c.Listen == "" {
		return list, nil
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", c.Listen, err)
	}
	secure, err := host.Keys{PEM: c.Keys}.Listener(l)
	return append(list, secure), err
}

// peer is the daemon's user.
func (c *hostConfig) peer() (uid, gid int, err error) {
	u, err := user.Lookup(c.User)
	if err != nil {
		return 0, 0, hinted{fmt.Errorf("find the daemon's user: %w", err), `make it ("useradd --system dayfly"), or set host.user`}
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return uid, gid, errors.Join(err1, err2)
}

// listenHost opens the socket for root and the daemon's group.
func listenHost(path string, gid int) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil { // of one that was killed
			return nil, err
		}
	} else if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: what is there is no socket", path)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := errors.Join(os.Chown(path, -1, gid), os.Chmod(path, 0o660)); err != nil {
		return nil, errors.Join(fmt.Errorf("open the socket to the daemon: %w", err), l.Close())
	}
	return l, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
)

// listen opens the listening address and the admin socket, or takes them from
// systemd: a TCP socket is the first, a Unix socket the second.
func listen(address, socket string) (public, admin net.Listener, err error) {
	given, err := activation.Listeners()
	if err != nil {
		return nil, nil, fmt.Errorf("take sockets from systemd: %w", err)
	}
	for _, l := range given {
		switch {
		case l == nil: // not a listening socket
		case l.Addr().Network() == "unix" && admin == nil:
			admin = l
		case l.Addr().Network() == "tcp" && public == nil:
			public = l
		default:
			return public, admin, fmt.Errorf("take sockets from systemd: one too many: %s", l.Addr())
		}
	}
	if public == nil {
		if public, err = listenPublic(address); err != nil {
			return nil, admin, err
		}
	}
	if admin == nil {
		admin, err = listenAdmin(socket)
	}
	return public, admin, err
}

func listenPublic(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l, nil
	}
	err = fmt.Errorf("listen on %s: %w", address, err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, hinted{err, "another program listens there: set daemon.listen to another address"}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, hinted{err, "it is no address of this machine: set daemon.listen to one that is, or leave the host out"}
	case errors.Is(err, syscall.EACCES):
		return nil, hinted{err, "ports below 1024 are root's: set daemon.listen to a higher one, or have systemd open it (dayfly.socket)"}
	}
	return nil, err
}

// listenAdmin opens the admin socket for its owner and group. A socket that a
// killed daemon left behind is replaced; one that answers is not.
func listenAdmin(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("make admin socket's folder: %w", err)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, hinted{fmt.Errorf("listen on %s: a daemon answers there", path), "give this one its own daemon.admin_socket"}
	}
	info, err := os.Lstat(path)
	switch {
	case err != nil: // nothing there
	case info.Mode().Type() != os.ModeSocket:
		return nil, hinted{fmt.Errorf("listen on %s: what is there is no socket", path), "remove it, or set daemon.admin_socket to another path"}
	default:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace admin socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(fmt.Errorf("open admin socket to its group: %w", err), l.Close())
	}
	return l, nil
}

// Bounds of a request. A delivery has up to 25 MiB.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = time.Minute
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10
	stopTimeout   = time.Second // a stop takes at most 2 s in all
)

// serveHTTP serves until ctx ends, then lets open requests finish for a moment.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		patience, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if srv.Shutdown(patience) != nil {
			_ = srv.Close()
		}
	})
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	<-stopped
	return nil
}

//go:build linux

package host

import (
	"log/slog"
	"net"
	"slices"

	"golang.org/x/sys/unix"
)

// Peers lets only processes of some users of this node connect to a Unix
// socket, as the kernel says who they are: SO_PEERCRED of unix(7). What runs in
// a container is none of them, whatever its number there.
func Peers(l net.Listener, log *slog.Logger, uids ...int) net.Listener { return peers{l, log, uids} }

type peers struct {
	net.Listener
	log  *slog.Logger
	uids []int
}

// Accept implements net.Listener.
func (p peers) Accept() (net.Conn, error) {
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, ok := peer(c)
		if ok && slices.Contains(p.uids, uid) {
			return c, nil
		}
		p.log.Warn("connection refused", "uid", uid)
		_ = c.Close()
	}
}

func peer(c net.Conn) (uid int, ok bool) {
	u, isUnix := c.(*net.UnixConn)
	if !isUnix {
		return -1, false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return -1, false
	}
	uid = -1
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid, ok = int(cred.Uid), true
		}
	})
	return uid, ok
}

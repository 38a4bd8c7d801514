package pools

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"golang.org/x/crypto/ssh"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

const defaultSSHUser = "git"

// sshServer is a conversation over SSH. go-git's own SSH client is not used:
// it takes no context while it connects, so a server that accepts and then
// says nothing would hold the caller for ever, and it reads ~/.ssh/config and
// asks an agent, where the daemon should do as its configuration says.
type sshServer struct {
	conn  *ssh.Client
	in    io.WriteCloser
	out   io.Reader
	stop  func() bool
	fault *tail
	refs  *packp.AdvRefs
}

// ssh starts a service, git-upload-pack or git-receive-pack.
func (c GitConfig) ssh(ctx context.Context, ep *transport.Endpoint, service string) (*sshServer, error) {
	addr := net.JoinHostPort(strings.Trim(ep.Host, "[]"), strconv.Itoa(max(ep.Port, 0)))
	if ep.Port <= 0 {
		addr = net.JoinHostPort(strings.Trim(ep.Host, "[]"), "22")
	}
	config, err := c.sshConfig(ep.User, addr)
	if err != nil {
		return nil, err
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() }) // ends every wait below
	conn, channels, requests, err := ssh.NewClientConn(raw, addr, config)
	if err != nil {
		stop()
		raw.Close()
		return nil, sshRefusal(err)
	}
	s := &sshServer{conn: ssh.NewClient(conn, channels, requests), stop: stop, fault: &tail{}}
	if err := s.start(service+" "+quote(ep.Path), c.MaxBytes); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (c GitConfig) sshConfig(user, addr string) (*ssh.ClientConfig, error) {
	pem, err := readPrivate(c.SSHKey)
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return nil, fmt.Errorf("read SSH key %s: %w: %w", c.SSHKey, err, fleet.ErrInvalid)
	}
	hosts, err := gitssh.NewKnownHostsDb(c.KnownHosts)
	if err != nil {
		return nil, fmt.Errorf("read known hosts %s: %w: %w", c.KnownHosts, err, fleet.ErrInvalid)
	}
	if user == "" {
		user = defaultSSHUser
	}
	return &ssh.ClientConfig{
		User:              user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback:   hosts.HostKeyCallback(),
		HostKeyAlgorithms: hosts.HostKeyAlgorithms(addr), // else a host with several keys may offer one we do not know
	}, nil
}

// readPrivate reads a file that nobody else may read.
func readPrivate(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read SSH key: %w", kindOfFile(err))
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("read SSH key %s: mode %#o lets others read it; run chmod 600: %w", name, mode, fleet.ErrDenied)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read SSH key: %w", kindOfFile(err))
	}
	return data, nil
}

// sshRefusal tells a refused key from a network fault: x/crypto/ssh has no
// type for it.
func sshRefusal(err error) error {
	if strings.Contains(err.Error(), "unable to authenticate") {
		return fmt.Errorf("the server refuses the SSH key: %w: %w", err, fleet.ErrDenied)
	}
	return err
}

func (s *sshServer) start(command string, most int64) error {
	session, err := s.conn.NewSession()
	if err != nil {
		return err
	}
	if s.in, err = session.StdinPipe(); err != nil {
		return err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return err
	}
	s.out = &cappedBody{io.NopCloser(out), 2*most + 4096, false} // references and pack
	session.Stderr = s.fault
	return session.Start(command)
}

// quote quotes as git's own sq_quote_buf does (quote.c).
func quote(s string) string {
	return "'" + strings.NewReplacer(`'`, `'\''`, `!`, `'\!'`).Replace(s) + "'"
}

func (s *sshServer) AdvertisedReferencesContext(context.Context) (*packp.AdvRefs, error) {
	refs := packp.NewAdvRefs()
	err := refs.Decode(s.out)
	switch {
	case errors.Is(err, packp.ErrEmptyAdvRefs), err == nil && refs.IsEmpty():
		return nil, transport.ErrEmptyRemoteRepository
	case err != nil:
		return nil, s.explain(err)
	}
	s.refs = refs
	return refs, nil
}

// UploadPack follows go-git's transport/internal/common, which cannot be used
// from outside.
func (s *sshServer) UploadPack(_ context.Context, req *packp.UploadPackRequest) (*packp.UploadPackResponse, error) {
	if err := req.Validate(); err != nil {
		return nil, err
	}
	if err := req.UploadRequest.Encode(s.in); err != nil {
		return nil, s.explain(err)
	}
	if err := pktline.NewEncoder(s.in).EncodeString("done\n"); err != nil {
		return nil, s.explain(err)
	}
	resp := packp.NewUploadPackResponse(req)
	if err := resp.Decode(io.NopCloser(s.out)); err != nil {
		return nil, s.explain(err)
	}
	return resp, nil
}

// ReceivePack implements receiver.
func (s *sshServer) ReceivePack(_ context.Context, req *packp.ReferenceUpdateRequest) (*packp.ReportStatus, error) {
	if err := req.Encode(s.in); err != nil {
		return nil, s.explain(err)
	}
	if err := s.in.Close(); err != nil {
		return nil, s.explain(err)
	}
	report := packp.NewReportStatus()
	if err := report.Decode(s.out); err != nil {
		return nil, s.explain(err)
	}
	return report, report.Error()
}

// explain adds what the server wrote to its standard error.
func (s *sshServer) explain(err error) error {
	said := strings.TrimSpace(s.fault.String())
	lower := strings.ToLower(said + err.Error())
	for _, sign := range []string{"not found", "does not exist", "does not appear to be a git repository"} {
		if strings.Contains(lower, sign) {
			return fmt.Errorf("%w: %q", transport.ErrRepositoryNotFound, said)
		}
	}
	if said == "" {
		return err
	}
	return fmt.Errorf("%w: server says %q", err, said)
}

// Close ends the conversation.
func (s *sshServer) Close() error {
	s.stop()
	return s.conn.Close()
}

package pct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Host is a node to reach over SSH.
type Host struct {
	Address     string // host:port
	User        string // root, or one with sudo and no password
	KeyFile     string // private key; empty: the agent's
	Password    string
	KnownHosts  string // file
	Fingerprint string // of the host key, SHA256:...; wins over KnownHosts
}

// maxSessions is less than the 10 that sshd allows on one connection
// (MaxSessions, sshd_config(5)).
const maxSessions = 8

// SSH is a node over SSH.
type SSH struct {
	host   Host
	client *ssh.Client
	agent  net.Conn
	gate   chan struct{}
}

// Dial connects to a node. The node's host key is always verified.
func Dial(ctx context.Context, h Host) (*SSH, error) {
	s := &SSH{host: h, gate: make(chan struct{}, maxSessions)}
	conf, err := s.config()
	if err == nil {
		err = s.connect(ctx, conf)
	}
	if err != nil {
		s.closeAgent()
		return nil, fmt.Errorf("connect to node by ssh %s@%s: %w", h.User, h.Address, err)
	}
	return s, nil
}

func (s *SSH) config() (*ssh.ClientConfig, error) {
	conf := &ssh.ClientConfig{User: s.host.User, Timeout: 10 * time.Second}
	var err error
	if conf.HostKeyCallback, conf.HostKeyAlgorithms, err = s.host.verifier(); err != nil {
		return nil, err
	}
	switch {
	case s.host.KeyFile != "":
		key, err := os.ReadFile(s.host.KeyFile)
		if err != nil {
			return nil, err
		}
		signer, err := ssh.ParsePrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("private key %s: %w", s.host.KeyFile, err)
		}
		conf.Auth = append(conf.Auth, ssh.PublicKeys(signer))
	case s.host.Password == "":
		s.agent, err = net.Dial("unix", os.Getenv("SSH_AUTH_SOCK"))
		if err != nil {
			return nil, fmt.Errorf("SSH agent: %w", err)
		}
		conf.Auth = append(conf.Auth, ssh.PublicKeysCallback(agent.NewClient(s.agent).Signers))
	}
	if s.host.Password != "" {
		conf.Auth = append(conf.Auth, ssh.Password(s.host.Password))
	}
	return conf, nil
}

func (s *SSH) connect(ctx context.Context, conf *ssh.ClientConfig) error {
	d := net.Dialer{Timeout: conf.Timeout, KeepAlive: 15 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", s.host.Address)
	if err != nil {
		return fmt.Errorf("%w; hint: look at host_ssh.host and port, and at the firewall; a build that needs no root does without", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(conf.Timeout))
	c, channels, requests, err := ssh.NewClientConn(conn, s.host.Address, conf)
	if err != nil {
		_ = conn.Close()
		return err
	}
	_ = conn.SetDeadline(time.Time{})
	s.client = ssh.NewClient(c, channels, requests)
	return nil
}

// verifier checks the host key against the fingerprint or the known hosts, and
// says which kinds of keys are known: the server is asked for one of those.
func (h Host) verifier() (ssh.HostKeyCallback, []string, error) {
	if h.Fingerprint != "" {
		return func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if got := ssh.FingerprintSHA256(key); got != h.Fingerprint {
				return fmt.Errorf("its host key is %s, want %s: this may be another machine; hint: if the node was set up anew, correct host_key_fingerprint", got, h.Fingerprint)
			}
			return nil
		}, nil, nil
	}
	check, err := knownhosts.New(h.KnownHosts)
	if err != nil {
		return nil, nil, fmt.Errorf("known hosts: %w", err)
	}
	return func(name string, addr net.Addr, key ssh.PublicKey) error {
		err := check(name, addr, key)
		wrong, ok := errors.AsType[*knownhosts.KeyError](err)
		switch {
		case ok && len(wrong.Want) == 0:
			return fmt.Errorf("its host key %s is not in %s; hint: compare it with \"ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\" on the node, then add it", ssh.FingerprintSHA256(key), h.KnownHosts)
		case ok:
			return fmt.Errorf("its host key has changed to %s, line %d of %s has another: this may be another machine; hint: if the node was set up anew, run \"ssh-keygen -R %s\" and add the new key",
				ssh.FingerprintSHA256(key), wrong.Want[0].Line, h.KnownHosts, name)
		}
		return err
	}, h.algorithms(check), nil
}

// algorithms are those of the known host keys: asked with a key of no kind,
// the known hosts say which ones they want.
func (h Host) algorithms(check ssh.HostKeyCallback) []string {
	wrong, ok := errors.AsType[*knownhosts.KeyError](check(h.Address, &net.TCPAddr{IP: net.IPv4zero}, noKey{}))
	if !ok {
		return nil
	}
	var list []string
	for _, k := range wrong.Want {
		if k.Key.Type() == ssh.KeyAlgoRSA {
			list = append(list, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		}
		list = append(list, k.Key.Type())
	}
	return list
}

type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }

// Run implements Shell.
func (s *SSH) Run(ctx context.Context, c Command) (int, error) {
	select {
	case s.gate <- struct{}{}:
		defer func() { <-s.gate }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	session, err := s.client.NewSession()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrLost, err)
	}
	defer session.Close()
	session.Stdout, session.Stderr = c.Stdout, c.Stderr
	var in io.WriteCloser
	if c.Stdin != nil {
		if in, err = session.StdinPipe(); err != nil {
			return 0, err
		}
	}
	argv := c.Argv
	if s.host.User != "root" {
		argv = append([]string{"sudo", "-n", "--"}, argv...)
	}
	if err := session.Start(quote(argv)); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrLost, err)
	}
	if in != nil {
		feed(in, c.Stdin)
	}
	stop := context.AfterFunc(ctx, func() {
		_ = session.Signal(ssh.SIGKILL)
		_ = session.Close()
	})
	defer stop()
	return s.status(ctx, session.Wait())
}

func (s *SSH) status(ctx context.Context, err error) (int, error) {
	exit, failed := errors.AsType[*ssh.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err == nil:
		return 0, nil
	case failed:
		return exit.ExitStatus(), nil
	}
	return 0, fmt.Errorf("%w: %w", ErrLost, err)
}

// Close implements Shell.
func (s *SSH) Close() error {
	defer s.closeAgent()
	return s.client.Close()
}

func (s *SSH) closeAgent() {
	if s.agent != nil {
		_ = s.agent.Close()
	}
}

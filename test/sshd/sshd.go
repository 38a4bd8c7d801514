// Package sshd is an SSH server for tests: it runs the commands that it gets
// with the machine's shell, as a node or a container would with its own.
package sshd

import (
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// Server is an SSH server on loopback.
type Server struct {
	Addr string   // host:port
	Env  []string // of every command; set before the first one
	// Shell prepares a command, to be run elsewhere than on this machine; set
	// before the first one.
	Shell func(command string) *exec.Cmd
	// Key is the host key of each connection instead, unless it returns nil; set
	// before the first one.
	Key     func() ssh.Signer
	signer  ssh.Signer
	conf    *ssh.ServerConfig
	listen  net.Listener
	mu      sync.Mutex
	conns   map[net.Conn]bool
	work    sync.WaitGroup
	command []string // that were run
}

// New starts a server for a test, at whose end it ends.
func New(t testing.TB, password string, admits func(ssh.PublicKey) bool) *Server {
	t.Helper()
	s, err := Start(password, admits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Start starts a server that admits whoever knows the password or has a key
// that admits names; with neither, everybody.
func Start(password string, admits func(ssh.PublicKey) bool) (*Server, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	s := &Server{signer: signer, conns: map[net.Conn]bool{}}
	s.conf = &ssh.ServerConfig{NoClientAuth: password == "" && admits == nil}
	if password != "" {
		s.conf.PasswordCallback = func(_ ssh.ConnMetadata, given []byte) (*ssh.Permissions, error) {
			if string(given) != password {
				return nil, errors.New("wrong password")
			}
			return nil, nil
		}
	}
	if admits != nil {
		s.conf.PublicKeyCallback = func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if !admits(key) {
				return nil, errors.New("unknown key")
			}
			return nil, nil
		}
	}
	s.conf.AddHostKey(signer)
	s.listen, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.Addr = s.listen.Addr().String()
	s.work.Go(s.accept)
	return s, nil
}

// Close ends the server and waits until its commands have ended.
func (s *Server) Close() {
	_ = s.listen.Close()
	s.Hangup()
	s.work.Wait()
}

// Port is the port that it listens on.
func (s *Server) Port() int {
	_, port, _ := net.SplitHostPort(s.Addr)
	n, _ := strconv.Atoi(port)
	return n
}

// HostKey is the server's public key.
func (s *Server) HostKey() ssh.PublicKey { return s.signer.PublicKey() }

// Hangup breaks all connections.
func (s *Server) Hangup() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// Commands are the commands that were run so far.
func (s *Server) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.command...)
}

func (s *Server) accept() {
	for {
		c, err := s.listen.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.work.Go(func() { s.serve(c) })
	}
}

func (s *Server) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	_, channels, requests, err := ssh.NewServerConn(c, s.config())
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	var sessions sync.WaitGroup
	for ch := range channels {
		if ch.ChannelType() != "session" {
			_ = ch.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, requests, err := ch.Accept()
		if err != nil {
			break
		}
		sessions.Go(func() { s.session(channel, requests) })
	}
	sessions.Wait()
}

// config is that of the next connection.
func (s *Server) config() *ssh.ServerConfig {
	if s.Key == nil {
		return s.conf
	}
	key := s.Key()
	if key == nil {
		return s.conf
	}
	conf := &ssh.ServerConfig{NoClientAuth: s.conf.NoClientAuth, PasswordCallback: s.conf.PasswordCallback, PublicKeyCallback: s.conf.PublicKeyCallback}
	conf.AddHostKey(key)
	return conf
}

// session runs one command. The command is killed when its channel goes.
func (s *Server) session(ch ssh.Channel, requests <-chan *ssh.Request) {
	defer ch.Close()
	for r := range requests {
		var exec struct{ Command string }
		if r.Type != "exec" || ssh.Unmarshal(r.Payload, &exec) != nil {
			_ = r.Reply(r.Type == "env" || r.Type == "pty-req", nil) // there is no terminal, which few programs mind
			continue
		}
		_ = r.Reply(true, nil)
		s.run(ch, requests, exec.Command)
		return
	}
}

// seals reports whether a command is the builder's, that makes a container fit
// to be cloned: a build that is wrong must not do so to this machine. What goes
// through lxc-attach is for that to tell.
func seals(command string) bool {
	return strings.Contains(command, ">/etc/machine-id") && !strings.HasPrefix(command, "'lxc-attach'")
}

func (s *Server) shell(command string) *exec.Cmd {
	if s.Shell != nil {
		return s.Shell(command)
	}
	if seals(command) {
		command = "echo 'this machine is not to be sealed' >&2; exit 1"
	}
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.Env = append(os.Environ(), s.Env...)
	return cmd
}

func (s *Server) run(ch ssh.Channel, requests <-chan *ssh.Request, command string) {
	s.mu.Lock()
	s.command = append(s.command, command)
	s.mu.Unlock()
	cmd := s.shell(command)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = ch, ch.Stderr(), 3*time.Second
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(in, ch)
		_ = in.Close()
	}()
	go func() {
		for r := range requests { // a signal, or the end of the channel
			_ = r.Reply(false, nil)
		}
		_ = cmd.Process.Kill()
	}()
	err = cmd.Wait()
	status := uint32(cmd.ProcessState.ExitCode())
	if err != nil && cmd.ProcessState.ExitCode() < 0 {
		status = 137
	}
	exited(ch, status)
}

func exited(ch ssh.Channel, status uint32) {
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
}

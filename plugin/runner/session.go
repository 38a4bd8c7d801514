package runner

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"sync"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/scripts/guest"
)

// session is a directory of scripts in the guest.
type session struct {
	comm packersdk.Communicator
	dir  string
}

// On the disk, not in /tmp: that is memory in newer systems, and the runner's
// tarball is large.
const making = "umask 077; mktemp -d /var/tmp/dayfly-provision.XXXXXXXX"

var dirForm = regexp.MustCompile(`^/var/tmp/dayfly-provision\.[A-Za-z0-9]{8}$`)

// enter makes the directory.
func enter(ctx context.Context, comm packersdk.Communicator) (*session, error) {
	var out, said bytes.Buffer
	code, err := command(ctx, comm, making, &out, &said)
	dir := strings.TrimSpace(out.String())
	switch {
	case err != nil:
		return nil, fmt.Errorf("make directory in the guest: %w", err)
	case code != 0:
		return nil, fmt.Errorf("make directory in the guest: %s", orCode(lastLine(said.String()), code))
	case !dirForm.MatchString(dir):
		return nil, fmt.Errorf("make directory in the guest: mktemp answers %.80q", dir)
	}
	return &session{comm, dir}, nil
}

// leaving is bounded: a guest that is gone must not hold a build that ends.
const leaving = 30 * time.Second

// leave removes the directory, whatever happened to the build.
func (s *session) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaving)
	defer cancel()
	_, _ = command(ctx, s.comm, asRoot("rm -rf "+s.dir), nil, nil)
}

// upload brings all scripts there in one archive: each upload is a connection
// to some communicators.
func (s *session) upload(ctx context.Context, params string) error {
	archive, err := scripts(params)
	if err != nil {
		return err
	}
	file := s.dir + "/scripts.tar"
	if err := s.comm.Upload(file, bytes.NewReader(archive), nil); err != nil {
		return err
	}
	var said bytes.Buffer
	code, err := command(ctx, s.comm, "tar -xf "+file+" -C "+s.dir, nil, &said)
	if err == nil && code != 0 {
		err = errors.New(orCode(lastLine(said.String()), code))
	}
	return err
}

func scripts(params string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name string, data []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o700, Size: int64(len(data)), Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	err := fs.WalkDir(guest.Files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := guest.Files.ReadFile(path)
		if err != nil {
			return err
		}
		return add(path, data)
	})
	if err == nil {
		err = add("params", []byte(params))
	}
	if err == nil {
		err = w.Close()
	}
	return b.Bytes(), err
}

// run runs one script as root. Each line that it prints goes to say; the
// error is the one that it ends with.
func (s *session) run(ctx context.Context, step string, say func(string)) error {
	out := &lines{each: say}
	said := &lines{each: say, kept: map[string]string{"error: ": "", "hint: ": ""}}
	code, err := command(ctx, s.comm, asRoot("bash "+s.dir+"/"+step), out, said)
	out.end()
	said.end()
	if err != nil {
		return err
	}
	if code == 0 {
		return nil
	}
	message := orCode(cmp.Or(said.line("error: "), said.last()), code)
	if hint := said.line("hint: "); hint != "" {
		message += " (hint: " + hint + ")"
	}
	return errors.New(message)
}

// asRoot runs a command as root: directly, or with sudo that asks nothing.
func asRoot(command string) string {
	return `if [ "$(id -u)" = 0 ]; then exec ` + command + `; else exec sudo -n ` + command + `; fi`
}

// command runs a command and waits for it, or until ctx ends: not every
// communicator knows the context.
func command(ctx context.Context, comm packersdk.Communicator, text string, out, said io.Writer) (code int, err error) {
	cmd := &packersdk.RemoteCmd{Command: text}
	if out != nil {
		cmd.Stdout = out
	}
	if said != nil {
		cmd.Stderr = said
	}
	if err := comm.Start(ctx, cmd); err != nil {
		return 0, err
	}
	exited := make(chan int, 1)
	go func() { exited <- cmd.Wait() }()
	select {
	case code = <-exited:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	if code == packersdk.CmdDisconnect {
		return 0, errLost
	}
	return code, nil
}

// lines cuts what is written into lines, and keeps the last one with each of
// some beginnings. It may still be written to after a command was given up.
type lines struct {
	mu   sync.Mutex
	rest []byte
	each func(string)
	kept map[string]string
	told string
}

const longest = 64 << 10

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found && len(l.rest) < longest {
			return len(p), nil
		}
		l.rest = rest
		l.tell(string(line))
	}
}

func (l *lines) tell(line string) {
	line = strings.ToValidUTF8(strings.TrimRight(line, "\r\n"), "?")
	for beginning := range l.kept {
		if text, ok := strings.CutPrefix(line, beginning); ok {
			l.kept[beginning] = text
			return
		}
	}
	l.told = cmp.Or(line, l.told)
	l.each(line)
}

// last is the last line that was said and not kept.
func (l *lines) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.told
}

func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) > 0 {
		l.tell(string(l.rest))
	}
	l.rest = nil
}

func (l *lines) line(beginning string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept[beginning]
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

func orCode(message string, code int) string {
	if message == "" {
		return fmt.Sprintf("exit code %d without a word", code)
	}
	return message
}

package pct

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/dayfly-ci/dayfly/test/sshd"
)

// attachScript stands for lxc-attach: the container is this machine.
const attachScript = `#!/bin/sh
[ "$1" = -n ] && [ "$3" = --clear-env ] && [ "$4" = -- ] || { echo "lxc-attach: bad arguments: $*" >&2; exit 1; }
[ "$2" != 404 ] || { echo "lxc-attach: 404: attach.c: get_attach_context: 406 Connection refused - Failed to get init pid" >&2; exit 1; }
shift 4
exec /usr/bin/env -i "$@"
`

// nodes are the ways to a node, each of which must do the same.
func nodes(t *testing.T, do func(*testing.T, Shell)) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "lxc-attach"), []byte(attachScript), 0o755); err != nil {
		t.Fatal(err)
	}
	path := bin + ":" + os.Getenv("PATH")
	t.Run("local", func(t *testing.T) {
		t.Setenv("PATH", path)
		do(t, Local{})
	})
	t.Run("ssh", func(t *testing.T) {
		server := sshd.New(t, "hunter2secret", nil)
		server.Env = []string{"PATH=" + path}
		s, err := Dial(t.Context(), Host{Address: server.Addr, User: "root", Password: "hunter2secret", Fingerprint: ssh.FingerprintSHA256(server.HostKey())})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		do(t, s)
	})
}

func run(t *testing.T, c packersdk.Communicator, command string, in io.Reader) (status int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := &packersdk.RemoteCmd{Command: command, Stdin: in, Stdout: &stdout, Stderr: &stderr}
	if err := c.Start(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
	status = cmd.Wait()
	return status, stdout.String(), stderr.String()
}

func TestCommands(t *testing.T) {
	t.Setenv("DAYFLY_LEAK", "from the node")
	nodes(t, func(t *testing.T, node Shell) {
		c := New(t.Context(), node, "101")
		tests := []struct {
			command, in string
			status      int
			out, errs   string
		}{
			{"echo out; echo err >&2; exit 3", "", 3, "out\n", "err\n"},
			{"exit 255", "", 255, "", ""},
			{"exit 1", "", 1, "", ""},
			{"true", "", 0, "", ""},
			{`printf '%s|' 'a b' "it's" '$HOME' "\\"; printf '\000'`, "", 0, "a b|it's|$HOME|\\|\x00", ""},
			{"cat", "in\x00put\n", 0, "in\x00put\n", ""},
			{"cat", "", 0, "", ""},
			{`echo "$HOME $USER ${DAYFLY_LEAK-none}"`, "", 0, "/root root none\n", ""},
			{"echo 'ü';\necho second line # comment", "", 0, "ü\nsecond line\n", ""},
			{"kill -9 $$", "", 137, "", ""},
		}
		for _, test := range tests {
			var in io.Reader
			if test.in != "" {
				in = strings.NewReader(test.in)
			}
			status, out, errs := run(t, c, test.command, in)
			if test.status == 137 { // the shell itself is gone: no exit status to speak of
				if status == 0 {
					t.Errorf("%q: exit status 0, want another", test.command)
				}
				continue
			}
			if status != test.status || out != test.out || errs != test.errs {
				t.Errorf("%q: %d %q %q, want %d %q %q", test.command, status, out, errs, test.status, test.out, test.errs)
			}
		}
	})
}

func TestInputThatNeverEndsDoesNotHang(t *testing.T) {
	nodes(t, func(t *testing.T, node Shell) {
		r, w := io.Pipe()
		defer w.Close()
		if status, out, _ := run(t, New(t.Context(), node, "101"), "echo done", r); status != 0 || out != "done\n" {
			t.Errorf("%d %q, want done", status, out)
		}
	})
}

func TestEndOfTheBuildEndsCommands(t *testing.T) {
	nodes(t, func(t *testing.T, node Shell) {
		ctx, cancel := context.WithCancel(t.Context())
		started, w := io.Pipe()
		cmd := &packersdk.RemoteCmd{Command: "echo started; exec sleep 300", Stdout: w}
		if err := New(ctx, node, "101").Start(context.Background(), cmd); err != nil {
			t.Fatal(err)
		}
		if _, err := started.Read(make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
		cancel()
		if status := cmd.Wait(); status != packersdk.CmdDisconnect {
			t.Errorf("exit status %d, want %d", status, packersdk.CmdDisconnect)
		}
	})
}

func TestVanishedContainerIsADisconnect(t *testing.T) {
	nodes(t, func(t *testing.T, node Shell) {
		status, _, errs := run(t, New(t.Context(), node, "404"), "true", nil)
		if status != packersdk.CmdDisconnect || !strings.Contains(errs, "Failed to get init pid") {
			t.Errorf("%d %q, want %d and lxc-attach's own words", status, errs, packersdk.CmdDisconnect)
		}
	})
}

func TestCommandsAtOnce(t *testing.T) {
	nodes(t, func(t *testing.T, node Shell) {
		c := New(t.Context(), node, "101")
		var all sync.WaitGroup
		for i := range 30 {
			all.Go(func() {
				if status, out, errs := run(t, c, fmt.Sprintf("echo %d; exit %d", i, i), nil); status != i || out != fmt.Sprintln(i) {
					t.Errorf("command %d: %d %q %q", i, status, out, errs)
				}
			})
		}
		all.Wait()
	})
}

// binary is what text-minded ways break: every byte, long, without an end of
// line.
func binary() []byte {
	b := make([]byte, 300_000)
	_, _ = rand.Read(b)
	for i := range 256 {
		b[i] = byte(i)
	}
	return append(b, []byte("\nPACKEREOF\n'\"$(false)`false`\x00")...)
}

func TestUploadAndDownload(t *testing.T) {
	data := binary()
	nodes(t, func(t *testing.T, node Shell) {
		c, dir := New(t.Context(), node, "101"), t.TempDir()
		file := filepath.Join(t.TempDir(), "it's a $file")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, 0o751); err != nil {
			t.Fatal(err)
		}
		info, _ := os.Stat(file)
		put := func(dst string, info *os.FileInfo) {
			t.Helper()
			if err := c.Upload(dst, bytes.NewReader(data), info); err != nil {
				t.Fatal(err)
			}
		}
		check := func(name string, mode os.FileMode) {
			t.Helper()
			got, err := os.ReadFile(name)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: %d bytes (%v), want the %d that were sent", name, len(got), err, len(data))
			}
			if s, err := os.Stat(name); err == nil && s.Mode() != mode {
				t.Errorf("%s has mode %v, want %v", name, s.Mode(), mode)
			}
		}
		put(dir+"/named -x", &info)
		check(dir+"/named -x", 0o751)
		put(dir, &info) // a directory: under its own name
		check(dir+"/it's a $file", 0o751)
		put(dir+"/script.sh", nil)
		check(dir+"/script.sh", 0o644)
		put(dir+"/script.sh", nil) // again

		var back bytes.Buffer
		if err := c.Download(dir+"/named -x", &back); err != nil || !bytes.Equal(back.Bytes(), data) {
			t.Errorf("download: %d bytes (%v)", back.Len(), err)
		}
		if err := c.Download(dir+"/none", io.Discard); err == nil || !strings.Contains(err.Error(), "No such file") {
			t.Errorf("download of nothing: %v", err)
		}
		if err := c.Upload(dir+"/no/such/dir", bytes.NewReader(data), nil); err == nil {
			t.Error("upload into a directory that is not there succeeded")
		}
		if parts, _ := filepath.Glob(dir + "/*.part"); len(parts) > 0 {
			t.Errorf("left over: %v", parts)
		}
	})
}

func TestUploadThatBreaksLeavesTheOldFile(t *testing.T) {
	nodes(t, func(t *testing.T, node Shell) {
		c, dir := New(t.Context(), node, "101"), t.TempDir()
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
		big := filepath.Join(t.TempDir(), "big")
		if err := os.WriteFile(big, make([]byte, 1<<20), 0o644); err != nil {
			t.Fatal(err)
		}
		info, _ := os.Stat(big)
		broken := errors.New("disk error")
		src := io.MultiReader(bytes.NewReader(make([]byte, 500_000)), failing{broken})
		if err := c.Upload(file, src, &info); !errors.Is(err, broken) {
			t.Errorf("upload: %v, want %v", err, broken)
		}
		if got, _ := os.ReadFile(file); string(got) != "old" {
			t.Errorf("the file holds %d bytes, want the old ones", len(got))
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func tree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "src dir")
	for name, mode := range map[string]os.FileMode{"a": 0o640, "sub/b c": 0o755, "sub/deep/-d": 0o600, "sub/skip.tmp": 0o644} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("sub/b c", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o750); err != nil {
		t.Fatal(err)
	}
	return dir
}

// shape lists what is below a directory.
func shape(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(file string, e os.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, file)
		switch {
		case e.IsDir():
			fmt.Fprintf(&b, "%s/ ", name)
		case info.Mode()&os.ModeSymlink != 0:
			target, _ := os.Readlink(file)
			fmt.Fprintf(&b, "%s->%s ", name, target)
		default:
			text, _ := os.ReadFile(file)
			fmt.Fprintf(&b, "%s:%04o:%s ", name, info.Mode().Perm(), text)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return b.String()
}

func TestDirectories(t *testing.T) {
	const whole = "a:0640:a empty/ link->sub/b c sub/ sub/b c:0755:sub/b c sub/deep/ sub/deep/-d:0600:sub/deep/-d "
	nodes(t, func(t *testing.T, node Shell) {
		c, src := New(t.Context(), node, "101"), tree(t)
		up := t.TempDir()
		if err := c.UploadDir(up+"/contents", src+"/", []string{"*.tmp"}); err != nil {
			t.Fatal(err)
		}
		if got := shape(t, up+"/contents"); got != whole {
			t.Errorf("uploaded contents are\n%s, want\n%s", got, whole)
		}
		if err := c.UploadDir(up+"/itself", src, []string{"*.tmp"}); err != nil {
			t.Fatal(err)
		}
		if got := shape(t, up+"/itself/src dir"); got != whole {
			t.Errorf("uploaded directory is\n%s, want\n%s", got, whole)
		}
		down := t.TempDir()
		if err := c.DownloadDir(up+"/contents/", down+"/contents", nil); err != nil {
			t.Fatal(err)
		}
		if got := shape(t, down+"/contents"); got != whole {
			t.Errorf("downloaded contents are\n%s, want\n%s", got, whole)
		}
		if err := c.DownloadDir(up+"/itself/src dir", down+"/itself", nil); err != nil {
			t.Fatal(err)
		}
		if got := shape(t, down+"/itself/src dir"); got != whole {
			t.Errorf("downloaded directory is\n%s, want\n%s", got, whole)
		}
		if err := c.DownloadDir(up+"/contents/sub/*", down+"/matches", nil); err != nil {
			t.Fatal(err)
		}
		if got, want := shape(t, down+"/matches"), "b c:0755:sub/b c deep/ deep/-d:0600:sub/deep/-d "; got != want {
			t.Errorf("downloaded matches are\n%s, want\n%s", got, want)
		}
		if err := c.DownloadDir(up+"/none*", down+"/none", nil); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("download of no match: %v", err)
		}
	})
}

func TestHostKeysAreVerified(t *testing.T) {
	server, other := sshd.New(t, "secret", nil), sshd.New(t, "secret", nil)
	known := func(key ssh.PublicKey) string {
		file := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(file, []byte(knownhosts.Line([]string{server.Addr}, key)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		host Host
		want string // nothing: connects
	}{
		{"known", Host{KnownHosts: known(server.HostKey())}, ""},
		{"changed", Host{KnownHosts: known(other.HostKey())}, "its host key has changed to " + ssh.FingerprintSHA256(server.HostKey())},
		{"unknown", Host{KnownHosts: empty}, "is not in " + empty},
		{"fingerprint", Host{Fingerprint: ssh.FingerprintSHA256(server.HostKey())}, ""},
		{"another fingerprint", Host{Fingerprint: ssh.FingerprintSHA256(other.HostKey())}, "this may be another machine"},
		{"no file", Host{KnownHosts: "/does/not/exist"}, "known hosts"},
		{"wrong password", Host{KnownHosts: known(server.HostKey()), Password: "wrong"}, "unable to authenticate"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.host.Address, test.host.User = server.Addr, "root"
			if test.host.Password == "" {
				test.host.Password = "secret"
			}
			s, err := Dial(t.Context(), test.host)
			switch {
			case test.want == "" && err != nil:
				t.Fatal(err)
			case test.want == "":
				_ = s.Close()
			case err == nil || !strings.Contains(err.Error(), test.want):
				t.Errorf("dial: %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestKeyFile(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	mine, _ := ssh.NewPublicKey(public)
	server := sshd.New(t, "", func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), mine.Marshal()) })
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, pemEncode(block), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Dial(t.Context(), Host{Address: server.Addr, User: "root", KeyFile: file, Fingerprint: ssh.FingerprintSHA256(server.HostKey())})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}

func TestUserOtherThanRootGetsSudo(t *testing.T) {
	server := sshd.New(t, "secret", nil)
	s, err := Dial(t.Context(), Host{Address: server.Addr, User: "admin", Password: "secret", Fingerprint: ssh.FingerprintSHA256(server.HostKey())})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, _ = s.Run(t.Context(), Command{Argv: []string{"echo", "it's"}})
	if got, want := server.Commands()[0], `'sudo' '-n' '--' 'echo' 'it'\''s'`; got != want {
		t.Errorf("the node got %s, want %s", got, want)
	}
}

func TestLostConnection(t *testing.T) {
	server := sshd.New(t, "secret", nil)
	s, err := Dial(t.Context(), Host{Address: server.Addr, User: "root", Password: "secret", Fingerprint: ssh.FingerprintSHA256(server.HostKey())})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	time.AfterFunc(100*time.Millisecond, server.Hangup)
	if _, err := s.Run(t.Context(), Command{Argv: []string{"sleep", "300"}}); !errors.Is(err, ErrLost) {
		t.Errorf("run: %v, want %v", err, ErrLost)
	}
	if _, err := s.Run(t.Context(), Command{Argv: []string{"true"}}); !errors.Is(err, ErrLost) {
		t.Errorf("run again: %v, want %v", err, ErrLost)
	}
	if _, err := Dial(t.Context(), Host{Address: deadAddress(t), User: "root", Password: "x", Fingerprint: "SHA256:x"}); err == nil {
		t.Error("dial of nobody succeeded")
	}
}

func deadAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Package root gives tests a throw-away root file system: this machine's own,
// under an overlay in memory, in a mount namespace that ends with the test.
// Scripts run in it for real and change nothing.
package root

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Root is one root file system. Stubs shadow the machine's programs.
type Root struct {
	t    testing.TB
	dir  string // of the overlay, in the namespace
	hold *exec.Cmd
}

const setUp = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" root
mount -t proc proc root/proc
mount --rbind /dev root/dev
for dir in run tmp var/tmp; do mount -t tmpfs -o mode=1777 tmpfs "root/$dir"; done
chmod 755 root/run
mkdir root/stub
echo ready
exec cat >/dev/null
`

// New makes a root file system, or skips the test where that is not possible.
func New(t testing.TB) *Root {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: the scripts run in a mount namespace of their own")
	}
	if out, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("needs mount namespaces: unshare: %v: %s", err, out)
	}
	r := &Root{t: t, dir: t.TempDir()}
	r.hold = exec.Command("unshare", "--mount", "/bin/sh", "-c", setUp, "sh", r.dir)
	in, err := r.hold.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.hold.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	r.hold.Stderr = &said
	if err := r.hold.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = r.hold.Wait() // the namespace, and with it every mount, is gone
	})
	ready := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(out, ready); err != nil {
		in.Close()
		_ = r.hold.Wait()
		t.Skipf("needs overlay mounts on this machine: %s", bytes.TrimSpace(said.Bytes()))
	}
	return r
}

// Enter is what runs a program in the root file system: the words before its
// name.
func (r *Root) Enter() []string {
	return []string{"nsenter", "--mount", fmt.Sprintf("--target=%d", r.hold.Process.Pid), "chroot", filepath.Join(r.dir, "root")}
}

// Command prepares a shell command in the root file system.
func (r *Root) Command(command string) *exec.Cmd {
	argv := append(r.Enter(), "/bin/sh", "-c", command)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/stub:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	return cmd
}

// Run runs a shell command and returns what it printed, its two outputs
// together, and its exit code.
func (r *Root) Run(command string) (out string, code int) {
	r.t.Helper()
	text, err := r.Command(command).CombinedOutput()
	if err == nil {
		return string(text), 0
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		r.t.Fatalf("run %.60q: %v", command, err)
	}
	return string(text), exit.ExitCode()
}

// Must runs a shell command that has to succeed.
func (r *Root) Must(command string) string {
	r.t.Helper()
	out, code := r.Run(command)
	if code != 0 {
		r.t.Fatalf("run %.200q: exit code %d: %s", command, code, out)
	}
	return strings.TrimSpace(out)
}

// Write writes a file.
func (r *Root) Write(path, content string, mode os.FileMode) {
	r.t.Helper()
	cmd := r.Command(fmt.Sprintf("mkdir -p '%s' && cat >'%s' && chmod %o '%s'", filepath.Dir(path), path, mode, path))
	cmd.Stdin = strings.NewReader(content)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("write %s: %v: %s", path, err, out)
	}
}

// Stub puts a shell script in the place of a program. Its calls are logged.
func (r *Root) Stub(name, script string) {
	r.t.Helper()
	r.Stubs(map[string]string{name: script})
}

// Stubs puts shell scripts in the place of programs, by their names: all at
// once, as a program started in the root file system takes its time.
func (r *Root) Stubs(scripts map[string]string) {
	r.t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, script := range scripts {
		text := "#!/bin/sh\nprintf '%s\\n' \"" + name + " $*\" >>/stub/.calls\n" + script + "\n"
		err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))})
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			r.t.Fatalf("pack stub %s: %v", name, err)
		}
	}
	if err := w.Close(); err != nil {
		r.t.Fatal(err)
	}
	cmd := r.Command("/bin/tar -xf - -C /stub")
	cmd.Stdin = &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("write stubs: %v: %s", err, out)
	}
}

// Calls are the calls of stubs so far, "apt-get update".
func (r *Root) Calls() []string {
	r.t.Helper()
	out, _ := r.Run("cat /stub/.calls 2>/dev/null; rm -f /stub/.calls")
	return strings.Split(strings.TrimSpace(out), "\n")
}

// Tree lists every file below some directories, with mode, owner and content,
// so that two states can be compared.
func (r *Root) Tree(dirs ...string) string {
	r.t.Helper()
	list := strings.Join(dirs, " ")
	return r.Must(`find ` + list + ` -xdev \( -type f -printf '%M %u %p\n' -o -type l -printf '%p -> %l\n' \) 2>/dev/null | sort; ` +
		`find ` + list + ` -xdev -type f -print0 2>/dev/null | xargs -0r sha256sum | sort -k 2`)
}

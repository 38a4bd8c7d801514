package runner

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/test/root"
)

// shell is a communicator into a throw-away root file system, with the least
// that one may do: Start and Upload.
type shell struct {
	packersdk.Communicator
	root *root.Root
}

func (s shell) Start(_ context.Context, rc *packersdk.RemoteCmd) error {
	cmd := s.root.Command(rc.Command)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = rc.Stdin, rc.Stdout, rc.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		err := cmd.Wait()
		code := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		} else if err != nil {
			code = packersdk.CmdDisconnect
		}
		rc.SetExited(code)
	}()
	return nil
}

func (s shell) Upload(dst string, r io.Reader, _ *os.FileInfo) error {
	cmd := s.root.Command("cat >" + quote(dst))
	cmd.Stdin = r
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// stubs are what needs a network, systemd or a running dockerd.
var stubs = map[string]string{
	"dpkg-query": `while read -r name; do printf 'installed %s ' "$name"; done </stub/.installed`,
	"apt-get":    `case " $* " in *" install "*) for name; do case $name in -*|*=*|install) ;; *) echo "$name" >>/stub/.installed;; esac; done;; esac`,
	"apt-cache": `case $1 in
pkgnames) printf 'libicu72\nlibicu-dev\nlibicu9\n';;
show) case $3 in liblttng-ust1|libssl3|docker-buildx) ;; *) exit 1;; esac;;
madison) printf ' docker-ce | 5:28.5.10-1~x | y\n docker-ce | 5:28.5.1-1~x | y\n';;
esac`,
	"systemctl":           "",
	"systemd-detect-virt": "",
	"visudo":              "",
	"journalctl":          "echo 'level=error msg=\"no luck today\"'",
	"docker": `case $1 in
info) jq -r '."storage-driver"' /etc/docker/daemon.json;;
version) echo 28.5.1;;
import) tar -t >/stub/.proof;;
run) case "$*" in *dayfly-proof:upper*) echo works;; esac;;
esac`,
}

// newGuest is a Debian guest in which everything but the stubs is real.
func newGuest(t *testing.T) *root.Root {
	t.Helper()
	g := root.New(t)
	g.Stubs(stubs)
	// The root file system is an overlay, which takes no other on top.
	g.Must("mkdir -p /var/lib/docker /srv/docker && mount -t tmpfs docker /var/lib/docker && mount -t tmpfs docker /srv/docker; " +
		"touch /stub/.installed; groupadd --force docker; userdel --force --remove runner 2>/dev/null; true")
	return g
}

// unstub gives a program back what it was before a test's own stub.
func unstub(g *root.Root, name string) {
	if script, ok := stubs[name]; ok {
		g.Stub(name, script)
		return
	}
	g.Must("rm /stub/" + name)
}

// tarball is a runner as far as the provisioner looks at it.
func tarball(t *testing.T, version string) (data []byte, sum string) {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, text := range map[string]string{
		"bin/Runner.Listener": "#!/bin/sh\n[ \"$(id -u)\" != 0 ] || exit 9\necho " + version + "\n",
		"run.sh":              "#!/bin/sh\n",
	} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(b.Bytes())
	return b.Bytes(), hex.EncodeToString(hash[:])
}

// provision runs the provisioner with a configuration.
func provision(t *testing.T, g *root.Root, conf map[string]any) (said string, err error) {
	t.Helper()
	p := &Provisioner{}
	if err := p.Prepare(conf); err != nil {
		t.Fatal(err)
	}
	ui := &transcript{}
	err = p.Provision(t.Context(), ui, shell{root: g}, map[string]any{"TemplateFamily": "ubuntu-24.04", "TemplateVersion": "2.340.0-1"})
	return ui.String(), err
}

// transcript is a Ui that remembers.
type transcript struct {
	packersdk.Ui
	mu sync.Mutex
	b  bytes.Buffer
}

func (u *transcript) Say(s string)     { u.add(s) }
func (u *transcript) Message(s string) { u.add(s) }
func (u *transcript) Error(s string)   { u.add(s) }

func (u *transcript) add(s string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fmt.Fprintln(&u.b, s)
}

func (u *transcript) String() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.b.String()
}

func digest(data []byte) string {
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:])
}

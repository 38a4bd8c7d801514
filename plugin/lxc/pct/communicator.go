package pct

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
)

// Communicator implements packersdk.Communicator for one container.
type Communicator struct {
	node  Shell
	id    string
	build context.Context // when it ends, so does every command
}

// New makes a communicator for the container with that VMID. Packer does not
// pass its context on to Start; that of the build takes its place.
func New(build context.Context, node Shell, id string) *Communicator {
	return &Communicator{node: node, id: id, build: build}
}

// environment is what a login of root has. Without it the node's own would
// leak in, or nothing would be set at all.
var environment = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LOGNAME=root", "TERM=dumb",
}

func (c *Communicator) attach(argv ...string) []string {
	all := append([]string{"lxc-attach", "-n", c.id, "--clear-env", "--", "/usr/bin/env"}, environment...)
	return append(all, argv...)
}

// Start implements packersdk.Communicator.
func (c *Communicator) Start(ctx context.Context, rc *packersdk.RemoteCmd) error {
	complaint := &tail{next: rc.Stderr}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.build, cancel)
	go func() {
		defer stop()
		defer cancel()
		status, err := c.node.Run(ctx, Command{
			Argv: c.attach("/bin/sh", "-c", rc.Command), Stdin: rc.Stdin, Stdout: rc.Stdout, Stderr: complaint,
		})
		switch {
		case err != nil:
			complaint.say("lxc-attach: " + err.Error())
			status = packersdk.CmdDisconnect
		case (status == 1 || status == 255) && complaint.ofAttach():
			status = packersdk.CmdDisconnect // the container is gone: nothing was run
		}
		rc.SetExited(status)
	}()
	return nil
}

// tail passes on what it is given and keeps the end of it.
type tail struct {
	next io.Writer
	mu   sync.Mutex
	kept []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.kept = append(t.kept, p...)
	t.kept = t.kept[max(0, len(t.kept)-4096):]
	t.mu.Unlock()
	if t.next == nil {
		return len(p), nil
	}
	return t.next.Write(p)
}

func (t *tail) say(line string) { _, _ = t.Write([]byte(line + "\n")) }

// ofAttach reports whether lxc-attach itself complained: it prints its name
// first, and the container's in most versions.
func (t *tail) ofAttach() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.HasPrefix(t.kept, []byte("lxc-attach: ")) || bytes.Contains(t.kept, []byte("\nlxc-attach: "))
}

// run runs a script of ours in the container, which gets args as $1, $2, ...
func (c *Communicator) run(in io.Reader, out io.Writer, script string, args ...string) error {
	var complaint bytes.Buffer
	status, err := c.node.Run(c.build, Command{
		Argv: c.attach(append([]string{"/bin/sh", "-c", script, "sh"}, args...)...), Stdin: in, Stdout: out, Stderr: &complaint,
	})
	switch {
	case err != nil:
		return err
	case status != 0:
		return fmt.Errorf("exit status %d: %s", status, lastLines(complaint.String()))
	}
	return nil
}

// receive writes the one file of a tar stream. A stream that was cut off makes
// tar fail, and nothing takes the file's place.
const receive = `d=$1
[ ! -d "$d" ] || d=${d%/}/$2
t=$d.$$.part
umask 077
tar -xOf - >"$t" && chmod "$3" "$t" && mv -f -- "$t" "$d" || { s=$?; rm -f -- "$t"; exit $s; }`

// Upload implements packersdk.Communicator.
func (c *Communicator) Upload(dst string, src io.Reader, info *os.FileInfo) error {
	name, mode, size := path.Base(dst), os.FileMode(0o644), int64(-1)
	if info != nil && *info != nil {
		name, mode, size = (*info).Name(), (*info).Mode(), (*info).Size()
	}
	err := stream(
		func(w io.Writer) error { return packOne(w, src, size) },
		func(r io.Reader) error { return c.run(r, nil, receive, dst, name, octal(mode)) },
	)
	if err != nil {
		return fmt.Errorf("upload %s: %w", dst, err)
	}
	return nil
}

// UploadDir implements packersdk.Communicator. A source that ends in a slash
// gives its contents, any other itself, as with rsync.
func (c *Communicator) UploadDir(dst, src string, exclude []string) error {
	prefix := ""
	if !strings.HasSuffix(src, "/") && !strings.HasSuffix(src, string(os.PathSeparator)) {
		prefix = path.Base(strings.ReplaceAll(src, string(os.PathSeparator), "/"))
	}
	err := stream(
		func(w io.Writer) error { return pack(w, src, prefix, exclude) },
		func(r io.Reader) error {
			return c.run(r, nil, `mkdir -p -- "$1" && exec tar -xpf - -C "$1"`, dst)
		},
	)
	if err != nil {
		return fmt.Errorf("upload %s to %s: %w", src, dst, err)
	}
	return nil
}

// Download implements packersdk.Communicator.
func (c *Communicator) Download(src string, dst io.Writer) error {
	if err := c.run(nil, dst, `exec cat -- "$1"`, src); err != nil {
		return fmt.Errorf("download %s: %w", src, err)
	}
	return nil
}

// sendAll sends what a pattern matches, each under its own name.
const sendAll = `IFS=
pattern=$1
set --
for f in $pattern; do
	[ -e "$f" ] || [ -L "$f" ] || { printf '%s: no such file\n' "$f" >&2; exit 2; }
	set -- "$@" -C "$(dirname -- "$f")" "./$(basename -- "$f")"
done
exec tar -cf - "$@"`

// DownloadDir implements packersdk.Communicator. A source that ends in a slash
// gives its contents, any other itself, and a pattern all that it matches.
func (c *Communicator) DownloadDir(src, dst string, exclude []string) error {
	script := sendAll
	if strings.HasSuffix(src, "/") {
		script = `exec tar -cf - -C "$1" .`
	}
	err := stream(
		func(w io.Writer) error { return c.run(nil, w, script, src) },
		func(r io.Reader) error { return unpack(r, dst, exclude) },
	)
	if err != nil {
		return fmt.Errorf("download %s to %s: %w", src, dst, err)
	}
	return nil
}

// stream runs both ends of a pipe. The writer's error is the cause when both
// fail, except when the reader broke the pipe.
func stream(write func(io.Writer) error, read func(io.Reader) error) error {
	r, w := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		err := write(w)
		_ = w.CloseWithError(err)
		wrote <- err
	}()
	readErr := read(r)
	_ = r.CloseWithError(errBroken)
	writeErr := <-wrote
	if writeErr != nil && !errors.Is(writeErr, errBroken) {
		return writeErr
	}
	return readErr
}

var errBroken = errors.New("the other end reads no more")

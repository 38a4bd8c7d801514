package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// child is a process that is measured.
type child struct {
	cmd  *exec.Cmd
	log  string // file of what it printed
	url  string // "http://127.0.0.1:8484"
	done chan struct{}
	err  error // set when done is closed
}

// spawn starts a program that listens on address.
func spawn(dir, address, program string, args ...string) (*child, error) {
	c := &child{log: filepath.Join(dir, "log"), url: "http://" + address, done: make(chan struct{})}
	log, err := os.Create(c.log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	defer log.Close()
	c.cmd = exec.Command(program, args...)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// ready waits until path is answered with success.
func (c *child) ready(ctx context.Context, path string) error {
	var died error
	err := wait(ctx, "the child answers", func() bool {
		select {
		case <-c.done:
			died = fmt.Errorf("%s ended: %w", filepath.Base(c.cmd.Path), cmp.Or(c.err, errEnded))
			return true
		default:
		}
		resp, err := http.Get(c.url + path)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode < 300
	})
	return errors.Join(err, died)
}

// alive is a context that ends with the process, too.
func (c *child) alive(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		defer cancel(nil)
		select {
		case <-ctx.Done():
		case <-c.done:
			cancel(fmt.Errorf("%s ended: %w", filepath.Base(c.cmd.Path), cmp.Or(c.err, errEnded)))
		}
	}()
	return ctx
}

// errEnded is why a process ended that ended well.
var errEnded = errors.New("exit status 0")

// stop ends the process, the hard way if it does not obey.
func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(5 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

// lastWords adds the end of the child's log to an error.
func (c *child) lastWords(err error) error {
	text, _ := os.ReadFile(c.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%w\nthe log ends:\n%s", err, strings.Join(lines[max(0, len(lines)-10):], "\n"))
}

// tick is the unit of the times in /proc/PID/stat on every Linux (proc(5),
// USER_HZ).
const tick = 10 * time.Millisecond

// cpu is the processor time used so far.
func (c *child) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	// The second field is the program's name in brackets, which may hold
	// anything; utime and stime are fields 14 and 15.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, errors.New("read processor time: /proc/PID/stat is too short")
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// memory reads VmRSS or VmHWM, in megabytes.
func (c *child) memory(field string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("read memory: no %s in /proc/PID/status", field)
}

// freeAddress finds a loopback address that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// bare starts the program that does nothing, to compare with.
func (b *bench) bare(ctx context.Context) (*child, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir, err := b.folder("bare")
	if err != nil {
		return nil, err
	}
	c, err := spawn(dir, address, b.bareProgram, address)
	if err != nil {
		return nil, err
	}
	if err := c.ready(ctx, "/"); err != nil {
		c.stop()
		return nil, c.lastWords(err)
	}
	return c, nil
}

const daemonConfig = `proxmox {
  url           = %q
  token_file    = "token"
  template_pool = %q
  runner_pool   = %q
  vmids         = %q
}

github {
  url                 = %q
  app                 = "%d"
  key_file            = "app.pem"
  webhook_secret_file = "webhook-secret"
  points              = %d
}

pools {
  dir = "pools"
}

daemon {
  listen       = %q
  state_dir    = "state"
  admin_socket = %q
}
`

// halfConfig makes the daemon's node one with a root half. Its pct would be
// Proxmox's: nothing is mended where nothing breaks.
const halfConfig = `
host {
  name   = %q
  user   = "root"
  socket = %q
  pct    = ["/bin/false"]
}
`

// daemon starts "dayfly run" in a world, with the pools of text, and waits
// until it is ready.
func (b *bench) daemon(ctx context.Context, w *world, text string) (*child, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir, err := b.folder("daemon")
	if err != nil {
		return nil, err
	}
	app := w.GitHub.App()
	files := map[string]string{
		"token": w.token, "app.pem": string(app.PEM), "webhook-secret": webhookSecret, "pools/pools.hcl": text,
		"dayfly.hcl": fmt.Sprintf(daemonConfig, w.proxmoxURL, pve.LabTemplates, pve.LabRunners, w.vmids, w.githubURL, app.ID, points,
			address, filepath.Join(b.sockets, filepath.Base(dir))) + w.half,
	}
	if err := os.Mkdir(filepath.Join(dir, "pools"), 0o755); err != nil {
		return nil, err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	c, err := spawn(dir, address, b.program, "run", "--config", filepath.Join(dir, "dayfly.hcl"))
	if err != nil {
		return nil, err
	}
	if err := c.ready(ctx, "/readyz"); err != nil {
		c.stop()
		return nil, c.lastWords(err)
	}
	w.deliver(c.url + "/webhook")
	return c, nil
}

// onePool is a pool for all jobs, with room for most containers.
func onePool(most, spare int) string {
	return poolFrame + fmt.Sprintf(poolText, "linux", `"x64"`, most, spare)
}

const poolFrame = `dayfly { schema = 1 }
template "ubuntu" { family = "ubuntu-24.04" }
`

const poolText = `pool %q {
  labels   = ["self-hosted", "linux", %s]
  template = template.ubuntu
  github { org = "acme" }
  network { bridge = "vmbr0" }
  scale {
    max   = %d
    spare = %d
  }
}
`

// wait polls until cond holds.
func wait(ctx context.Context, what string, cond func() bool) error {
	deadline := time.Now().Add(3 * patience)
	for !cond() {
		if time.Now().After(deadline) {
			return fmt.Errorf("wait until %s: not within %s", what, 3*patience)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

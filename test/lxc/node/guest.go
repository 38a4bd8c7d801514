package node

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/sim/lab"
)

// Guest is one container.
type Guest struct {
	W    *World
	VMID int
	Name string
}

// Clone makes a container of a template. Proxmox locks a template while it is
// cloned: one clone waits for the other.
func (w *World) Clone(template int) (*Guest, error) {
	w.cloning.Lock()
	defer w.cloning.Unlock()
	g := &Guest{W: w, VMID: w.NextVMID()}
	g.Name = fmt.Sprintf("r-%d", g.VMID)
	return g, w.Task(http.MethodPost, LXC(template, "/clone"), map[string]string{"newid": strconv.Itoa(g.VMID), "hostname": g.Name})
}

// Destroy removes the container, running or not. One that is gone is no error.
func (g *Guest) Destroy() error {
	if _, there := g.W.Proxmox.Container(g.VMID); !there {
		return nil
	}
	return g.W.Task(http.MethodDelete, LXC(g.VMID, ""), map[string]string{"force": "1"})
}

// Set changes options of the container.
func (g *Guest) Set(options map[string]string) error {
	_, err := g.W.Call(http.MethodPut, LXC(g.VMID, "/config"), options)
	return err
}

// Start starts the container, as Proxmox does.
func (g *Guest) Start() error { return g.W.Task(http.MethodPost, LXC(g.VMID, "/status/start"), nil) }

// Path is a file of the container as the host sees it, on disk.
func (g *Guest) Path(name string) string {
	k, _ := g.W.Proxmox.Container(g.VMID)
	return filepath.Join(lab.Rootfs(k.Config["rootfs"]), name)
}

// Exec runs a shell command as root in the running container, as Proxmox's own
// "pct exec" does, and returns what it printed.
func (g *Guest) Exec(ctx context.Context, command string) (string, error) {
	cmd := exec.CommandContext(ctx, "lxc-attach", "-n", strconv.Itoa(g.VMID), "--clear-env", "--", "/bin/sh", "-c", command)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out // not a terminal, where it loses output
	err := cmd.Run()
	return strings.TrimSpace(out.String()), err
}

package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// Bare prepares the container for a start without Proxmox and the daemon.
// With a JIT config, that is there from the beginning.
func (g *Guest) Bare(config string, raw ...[2]string) (*lab.Bare, error) {
	k, there := g.W.Proxmox.Container(g.VMID)
	if !there {
		return nil, fmt.Errorf("container %d is not there", g.VMID)
	}
	volume, _, _ := strings.Cut(k.Config["rootfs"], ",")
	storage, name, _ := strings.Cut(volume, ":")
	b, err := lab.NewBare(pve.Launch{
		VMID: g.VMID, Options: k.Config, Raw: raw, Volumes: map[string]pve.Volume{"rootfs": {Storage: storage, Name: filepath.Base(name)}},
	})
	if err != nil || config == "" {
		return b, err
	}
	dir, file := filepath.Join(b.Run(), "dayfly"), filepath.Join(b.Run(), "dayfly", "jit")
	if err := os.Mkdir(dir, 0o711); err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, []byte(sim.JITVariable+"="+config+"\n"), 0o600); err != nil {
		return nil, err
	}
	if err := b.Own("dayfly"); err != nil {
		return nil, err
	}
	return b, b.Own("dayfly/jit")
}

// Clock is what CLOCK_MONOTONIC shows, which containers share with the machine
// and systemd tells its times by.
func Clock() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // fails for a clock that is not there alone
	return time.Duration(t.Nano())
}

// TellBegin prints when the program of a container's runner began, in
// microseconds of that clock: a command to run in it, as anybody. The stub
// runner's log says so.
const TellBegin = `sed -n 's/.*Began \([0-9]*\) us .*/\1/p' /opt/actions-runner/_diag/Runner_*.log`

// When is the time of something that the clock showed.
func When(clock time.Duration) time.Time { return time.Now().Add(clock - Clock()) }

package lxc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/plugin/lxc/pct"
)

// stepAddress waits until the container has an address, and until its SSH
// server answers there. Packer's own step looks every 5 s only.
type stepAddress struct{}

// Run implements multistep.Step.
func (*stepAddress) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	b.ui.Say("Waiting for its address...")
	comm := &b.conf.Comm
	ctx, cancel := context.WithTimeout(ctx, comm.SSHTimeout)
	defer cancel()
	var err error
	if b.address = comm.SSHHost; b.address == "" {
		b.address, err = b.waitAddress(ctx, b.vmid, b.mac)
	}
	if err == nil && comm.SSHBastionHost == "" && comm.SSHProxyHost == "" {
		err = waitPort(ctx, net.JoinHostPort(b.address, strconv.Itoa(comm.SSHPort)))
	}
	if err != nil {
		return halt(state, err)
	}
	return multistep.ActionContinue
}

// Cleanup implements multistep.Step.
func (*stepAddress) Cleanup(multistep.StateBag) {}

// pauses are the times between looks at something that comes soon, or not for
// minutes: an eighth of the time that it has taken so far.
type pauses struct{ begin time.Time }

func (p *pauses) next() <-chan time.Time {
	if p.begin.IsZero() {
		p.begin = time.Now()
	}
	return time.After(min(max(time.Since(p.begin)/8, 20*time.Millisecond), 250*time.Millisecond))
}

func (b *build) waitAddress(ctx context.Context, id fleet.VMID, mac string) (string, error) {
	for look := new(pauses); ; {
		found, err := b.api.Address(ctx, b.conf.Node, id, mac)
		switch {
		case found != "":
			return found, nil
		case err != nil && !errors.Is(err, fleet.ErrUnavailable) && ctx.Err() == nil:
			return "", err
		}
		select {
		case <-look.next():
		case <-ctx.Done():
			return "", fmt.Errorf("container %d got no address on net0 (%s): %w; hint: look at the bridge, the VLAN and the DHCP server", id, mac, ctx.Err())
		}
	}
}

func waitPort(ctx context.Context, address string) error {
	for look := new(pauses); ; {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-look.next():
		case <-ctx.Done():
			return fmt.Errorf("no SSH server at %s: %w; hint: does the base image have one, and does a route lead there? The communicator pct needs neither", address, err)
		}
	}
}

// sshHost is where Packer's SSH communicator connects to.
func sshHost(state multistep.StateBag) (string, error) {
	if address := of(state).address; address != "" {
		return address, nil
	}
	return "", errors.New("the container has no address")
}

// stepConnectSSH connects to the container, whose host key is known: from the
// log of the task that made it, or because the build gave it.
type stepConnectSSH struct{}

// Run implements multistep.Step.
func (*stepConnectSSH) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	action, err := connectSSH(ctx, state, &b.conf.Comm, b.hostKeys, b.identified)
	if err != nil {
		return halt(state, err)
	}
	return action
}

// Cleanup implements multistep.Step.
func (*stepConnectSSH) Cleanup(multistep.StateBag) {}

// stepConnectPct makes the communicator pct and waits until the container is
// up.
type stepConnectPct struct{}

// Run implements multistep.Step.
func (*stepConnectPct) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	b.ui.Say("Waiting for it to be up...")
	if err := b.waitUp(ctx, b.vmid); err != nil {
		return halt(state, err)
	}
	if err := b.waitNetwork(ctx); err != nil {
		return halt(state, err)
	}
	state.Put("communicator", pct.New(ctx, b.node, fmt.Sprint(b.vmid)))
	return multistep.ActionContinue
}

// Cleanup implements multistep.Step.
func (*stepConnectPct) Cleanup(multistep.StateBag) {}

// waitNetwork waits until net0 has its address: systemd may be up before, and
// provisioners fetch things. What they do may not need it.
func (b *build) waitNetwork(ctx context.Context) error {
	if !b.addressed {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, upWithin)
	defer cancel()
	_, err := b.waitAddress(wait, b.vmid, b.mac)
	if err != nil && ctx.Err() == nil && wait.Err() != nil {
		b.ui.Error(err.Error() + ". Going on without.")
		return nil
	}
	return err
}

// isUp succeeds once systemd has started everything, or has failed to start
// some of it. Other inits are not waited for.
const isUp = `[ -d /run/systemd/system ] || exit 0
case $(systemctl is-system-running 2>/dev/null) in running | degraded) exit 0 ;; *) exit 9 ;; esac`

// upWithin bounds the wait for a container to be up; one that never is may
// still do.
const upWithin = 2 * time.Minute

func (b *build) waitUp(ctx context.Context, id fleet.VMID) error {
	wait, cancel := context.WithTimeout(ctx, upWithin)
	defer cancel()
	for look := new(pauses); ; {
		_, err := pct.Output(wait, b.node, "lxc-attach", "-n", fmt.Sprint(id), "--clear-env", "--", "/bin/sh", "-c", isUp)
		if err == nil {
			return nil
		}
		if errors.Is(err, pct.ErrLost) {
			return err
		}
		select {
		case <-look.next():
		case <-wait.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("container %d is not up after %s: %w", id, upWithin, err)
		}
	}
}

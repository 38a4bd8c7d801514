package lxc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// stepSmoke tries the template on a throw-away clone: it must start, get an
// address, run the commands, and still be up afterwards.
type stepSmoke struct{}

// Run implements multistep.Step.
func (*stepSmoke) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	if b.conf.SmokeTest.Skip || b.conf.SkipConvertToTemplate {
		b.info.Smoke = "skipped"
		return multistep.ActionContinue
	}
	begin := time.Now()
	m, err := b.smoke(ctx)
	if err == nil {
		err = b.discardSmoke(m)
	}
	if err != nil {
		return halt(state, fmt.Errorf("smoke test: %w", err))
	}
	b.info.Smoke = fmt.Sprintf("passed: %d commands", len(b.conf.SmokeTest.Commands))
	b.ui.Say(fmt.Sprintf("It passed its smoke test in %s.", time.Since(begin).Round(time.Millisecond)))
	return multistep.ActionContinue
}

// Cleanup implements multistep.Step. The clone goes with stepCreate.
func (*stepSmoke) Cleanup(multistep.StateBag) {}

// discardSmoke removes the clone: linked to the template, it would keep it
// from ever being removed.
func (b *build) discardSmoke(m *made) error {
	ctx, cancel := context.WithTimeout(context.Background(), b.conf.CleanupTimeout)
	defer cancel()
	if err := b.discard(ctx, m); err != nil {
		return fmt.Errorf("remove the clone: %w", err)
	}
	return nil
}

func (b *build) smoke(ctx context.Context) (*made, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.conf.SmokeTest.Timeout, errors.New("smoke_test.timeout has passed"))
	defer cancel()
	template := &made{node: b.conf.Node, vmid: b.vmid}
	m, err := b.allocate(ctx, b.conf.Node, -1, 0, func(m *made) error {
		return b.clone(ctx, template, m, !b.linked, b.cloneOptions(m, "smoke-"+b.conf.TemplateName[:min(50, len(b.conf.TemplateName))], "smoke"))
	})
	if err != nil {
		return m, err
	}
	b.ui.Say(fmt.Sprintf("Trying it on clone %d...", m.vmid))
	if err := b.tag(ctx, m, b.tags(proxmox.BuildingTag), nil); err != nil {
		return m, err
	}
	s, err := b.api.Settings(ctx, m.node, m.vmid)
	if err == nil && b.node == nil && len(b.conf.SmokeTest.Commands) > 0 {
		err = b.admit(ctx, m, s)
	}
	if err == nil {
		err = b.api.Start(ctx, m.node, m.vmid)
	}
	if err != nil {
		return m, err
	}
	return m, b.trySmoke(ctx, m, s["net0"])
}

// trySmoke tries a clone that was started.
func (b *build) trySmoke(ctx context.Context, m *made, net0 string) (err error) {
	address := ""
	if addressed(net0) {
		if address, err = b.waitAddress(ctx, m.vmid, netOption(net0, "hwaddr")); err != nil {
			return err
		}
	}
	if len(b.conf.SmokeTest.Commands) > 0 {
		if err := b.smokeCommands(ctx, m, address); err != nil {
			return err
		}
	}
	status, err := b.api.Status(ctx, m.node, m.vmid)
	if err == nil && status != "running" {
		err = fmt.Errorf("clone %d is not up any more", m.vmid)
	}
	return err
}

func (b *build) smokeCommands(ctx context.Context, m *made, address string) error {
	comm, err := b.enter(ctx, m, address)
	if err != nil {
		return err
	}
	for _, command := range b.conf.SmokeTest.Commands {
		b.ui.Say("  " + command)
		var out tailBuffer
		cmd := &packersdk.RemoteCmd{Command: command, Stdout: &out, Stderr: &out}
		if err := comm.Start(ctx, cmd); err != nil {
			return err
		}
		status, err := waitCommand(ctx, cmd)
		switch {
		case err != nil:
			return fmt.Errorf("%q: %w\n%s", command, err, out.String())
		case status != 0:
			return fmt.Errorf("%q: exit status %d\n%s", command, status, out.String())
		}
	}
	return nil
}

// waitCommand waits for a command, but not longer than for ctx.
func waitCommand(ctx context.Context, cmd *packersdk.RemoteCmd) (int, error) {
	done := make(chan int, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case status := <-done:
		return status, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// tailBuffer keeps the end of what is written to it, by standard output and
// standard error at once. It is no bytes.Buffer: whose ReadFrom, which io.Copy
// prefers, knows neither the other writer nor the limit.
type tailBuffer struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 4 << 10

// Write implements io.Writer.
func (t *tailBuffer) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-tailSize):]
	return len(p), nil
}

func (t *tailBuffer) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimRight(string(t.text), "\n")
}

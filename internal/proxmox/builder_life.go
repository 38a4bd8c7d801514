package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Settings reads a container's configuration, by the API's names.
func (b *Builder) Settings(ctx context.Context, node string, id fleet.VMID) (map[string]string, error) {
	s, err := b.c.settings(ctx, node, id)
	if err != nil {
		return nil, fmt.Errorf("read configuration of %d: %w", id, err)
	}
	out := map[string]string{}
	for k, v := range s {
		out[k] = string(v)
	}
	return out, nil
}

// Change sets options. It may be repeated, and is when its answer was lost.
func (b *Builder) Change(ctx context.Context, node string, id fleet.VMID, options Options) error {
	var err error
	for looks := newLooks(); looks.next(ctx); {
		err = b.c.put(ctx, container(node, id, "/config"), options)
		if !unknown(err) && !errors.Is(err, fleet.ErrUnavailable) && !errors.Is(err, fleet.ErrLocked) {
			break
		}
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("configure container %d: %w", id, err)
	}
	return nil
}

// Start starts a container and waits until its init runs.
func (b *Builder) Start(ctx context.Context, node string, id fleet.VMID) error {
	ctx, cancel := context.WithTimeout(ctx, b.conf.TaskTimeout)
	defer cancel()
	if err := b.c.start(ctx, node, id); err != nil {
		return fmt.Errorf("start container %d: %w", id, err)
	}
	return nil
}

// Shutdown asks a container's init to end, and kills it when it has not done
// so in time. One that is stopped already is success.
func (b *Builder) Shutdown(ctx context.Context, node string, id fleet.VMID, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, b.conf.TaskTimeout+patience)
	defer cancel()
	seconds := max(int(patience/time.Second), 1)
	task, err := b.c.post(ctx, container(node, id, "/status/shutdown"), map[string]any{"timeout": seconds, "forceStop": 1})
	if err == nil {
		err = b.c.wait(ctx, task)
	}
	if err == nil {
		return nil
	}
	// Whatever went wrong, the listing says whether it is down.
	if g, there, look := b.c.guest(ctx, node, id); look == nil && there && g.Status == "stopped" {
		return nil
	}
	return fmt.Errorf("shut down container %d: %w", id, err)
}

// Status is a container's state in the listing of its node: "running",
// "stopped", or nothing when it is not there.
func (b *Builder) Status(ctx context.Context, node string, id fleet.VMID) (string, error) {
	g, there, err := b.c.guest(ctx, node, id)
	if err != nil || !there {
		return "", err
	}
	return string(g.Status), nil
}

// Destroy stops and removes a container or template if mine says that it is
// the caller's, by its description. One that is gone is success. ErrInvalid
// says that it is another's, ErrLocked that a lock remains, and ErrDenied that
// the VMID is taken by something that Proxmox does not show us: half-made, or
// another's.
func (b *Builder) Destroy(ctx context.Context, node string, id fleet.VMID, mine func(description string) bool) error {
	ctx, cancel := context.WithTimeout(ctx, b.conf.TaskTimeout)
	defer cancel()
	err := b.destroy(ctx, node, id, mine)
	if err != nil {
		return fmt.Errorf("destroy container %d: %w", id, err)
	}
	return nil
}

func (b *Builder) destroy(ctx context.Context, node string, id fleet.VMID, mine func(string) bool) error {
	s, err := b.c.settings(ctx, node, id)
	if err != nil {
		err = b.c.unlessGone(ctx, node, id, err)
		if err != nil {
			return err
		}
		return b.unseen(ctx, id)
	}
	if !mine(s.description()) {
		return fmt.Errorf("its description is not the one we gave it: %w", fleet.ErrInvalid)
	}
	if s.protected() {
		if err := b.c.putConfig(ctx, place{node, id}, nil, map[string]any{"protection": 0}); err != nil {
			return fmt.Errorf("lift protection: %w", err)
		}
	}
	begin := time.Now()
	task, err := b.c.remove(context.WithoutCancel(ctx), container(node, id, ""), url.Values{"force": {"1"}, "purge": {"1"}})
	if unknown(err) {
		return b.c.findDestroy(ctx, node, id, begin, err)
	}
	if err == nil {
		err = b.c.wait(ctx, task)
	}
	return b.c.unlessGone(ctx, node, id, err)
}

// unseen tells a VMID that is free from one that only the token cannot see.
func (b *Builder) unseen(ctx context.Context, id fleet.VMID) error {
	taken, err := b.c.Taken(ctx, id)
	switch {
	case err != nil:
		return err
	case taken:
		return fmt.Errorf("VMID %d is taken, but not visible to %s: %w", id, b.User(), fleet.ErrDenied)
	}
	return nil
}

// Address is the address of the interface with that hardware address, or
// nothing as long as it has none. An IPv4 address is preferred; link-local
// ones do not count.
func (b *Builder) Address(ctx context.Context, node string, id fleet.VMID, mac string) (string, error) {
	var list []struct {
		Hardware text `json:"hwaddr"`
		Inet     text `json:"inet"`
		Inet6    text `json:"inet6"`
		All      []struct {
			Address text `json:"ip-address"`
		} `json:"ip-addresses"`
	}
	if err := b.c.get(ctx, container(node, id, "/interfaces"), nil, &list); err != nil {
		return "", fmt.Errorf("ask addresses of container %d: %w", id, err)
	}
	var six string
	for _, i := range list {
		if !strings.EqualFold(string(i.Hardware), mac) {
			continue
		}
		found := []string{string(i.Inet), string(i.Inet6)}
		for _, a := range i.All {
			found = append(found, string(a.Address))
		}
		for _, f := range found {
			host, _, _ := strings.Cut(f, "/")
			ip := net.ParseIP(host)
			switch {
			case ip == nil || ip.IsLinkLocalUnicast():
			case ip.To4() != nil:
				return host, nil
			case six == "":
				six = host
			}
		}
	}
	return six, nil
}

// Resize begins to make the root file system larger. No task says that it has
// the size already; fleet.ErrInvalid that it is larger.
func (b *Builder) Resize(ctx context.Context, node string, id fleet.VMID, size string) (Task, error) {
	var task upid
	path := container(node, id, "/resize")
	err := unwrap("PUT", path, b.c.api.Put(context.WithoutCancel(ctx), path, map[string]any{"disk": "rootfs", "size": size}, &task))
	if err != nil {
		return "", fmt.Errorf("resize root file system of %d to %s: %w", id, size, err)
	}
	return Task(task), nil
}

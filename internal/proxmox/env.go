package proxmox

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// maxEnv is less than the 128 KiB that the kernel allows one variable.
const maxEnv = 64 << 10

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// DeliverEnv sets an environment variable of a stopped container's init, which
// finds it in /proc/1/environ. On a running container Proxmox would only queue
// the change, so the caller delivers before it starts.
//
// It needs Proxmox VE 9.1 (pve-container 6.0.15). From pve-container 6.0.18 to
// 6.1.7 Proxmox accepts a newline here, which writes raw lxc lines, so a token
// that may set options is as good as root: use 6.1.8 or later. This function
// refuses control characters itself.
//
// The value stays in the container's configuration, on every node of the
// cluster, until the container is destroyed. So do facts, further variables as
// "NAME=VALUE" that are no secrets.
func (c *Client) DeliverEnv(ctx context.Context, node string, id fleet.VMID, name string, value fleet.Secret, facts ...string) error {
	err := c.inRange(id)
	if err == nil {
		err = checkEnv(name, value.Reveal())
	}
	for _, f := range facts {
		if name, value, _ := strings.Cut(f, "="); err == nil {
			err = checkEnv(name, value)
		}
	}
	if err == nil {
		// One option holds all variables, with NUL between them.
		env := strings.Join(append([]string{name + "=" + value.Reveal()}, facts...), "\x00")
		err = c.deliver(ctx, node, id, env, value.Reveal())
	}
	if err != nil {
		return fmt.Errorf("set environment of container %d: %w", id, err)
	}
	return nil
}

func checkEnv(name, value string) error {
	switch {
	case !envName.MatchString(name):
		return fmt.Errorf("name %q: want letters, digits and underscores: %w", name, fleet.ErrInvalid)
	case value == "":
		return fmt.Errorf("value is empty: %w", fleet.ErrInvalid)
	case len(value) > maxEnv:
		return fmt.Errorf("value is longer than %d bytes: %w", maxEnv, fleet.ErrInvalid)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		return fmt.Errorf("value has control characters: %w", fleet.ErrInvalid)
	}
	return nil
}

// deliver may repeat the PUT, which does the same each time.
func (c *Client) deliver(ctx context.Context, node string, id fleet.VMID, env, secret string) error {
	before := c.guests.latest(place{node, id})
	put := func() error {
		return scrub(c.putConfig(ctx, place{node, id}, before, map[string]any{"env": env}), secret)
	}
	err := put()
	for looks := newLooks(); unknown(err) && looks.next(ctx); {
		s, look := c.settings(ctx, node, id)
		switch {
		case look != nil:
		case string(s["env"]) == env:
			return nil
		default:
			err = put()
		}
	}
	if e, ok := errors.AsType[*Error](err); ok && strings.Contains(e.Params["env"], "not defined in schema") {
		return fmt.Errorf("%w; hint: the option env needs Proxmox VE 9.1 or later", err)
	}
	if err != nil {
		return c.gone(ctx, node, id, err)
	}
	return nil
}

// scrub takes a secret out of a refusal, should Proxmox ever quote it.
func scrub(err error, secret string) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	clean := *e
	clean.Reason = strings.ReplaceAll(e.Reason, secret, "[secret]")
	clean.Params = map[string]string{}
	for name, reason := range e.Params {
		clean.Params[name] = strings.ReplaceAll(reason, secret, "[secret]")
	}
	return &clean
}

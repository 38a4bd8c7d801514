package lxc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/plugin/lxc/pct"
)

// admits reports whether the smoke test's commands need the build's own key in
// the clone: there is neither a shell on the node nor a key or password that
// the template itself accepts.
func (c *Config) admits() bool {
	own := c.Comm.SSHPassword != "" || c.Comm.SSHPrivateKeyFile != "" || c.Comm.SSHAgentAuth
	return len(c.SmokeTest.Commands) > 0 && !c.SmokeTest.Skip && !c.SkipConvertToTemplate && !c.reachesNode() && !own
}

// admit prepares the smoke test's clone for a connection by SSH: it gets a host
// key to be known by, and accepts the build's own key if there is no other. The
// template is sealed without it, and a clone takes no ssh-public-keys.
func (b *build) admit(ctx context.Context, m *made, now map[string]string) error {
	own := ""
	if b.conf.admits() {
		if now["entrypoint"] != "" {
			return fmt.Errorf("the template has an entrypoint of its own (%s): give host_ssh, or ssh_private_key_file with a key that it accepts", now["entrypoint"])
		}
		own = string(b.conf.Comm.SSHPublicKey)
	}
	known, err := b.identify(ctx, m, now, own)
	if err == nil && b.conf.shielded() {
		err = b.answersSSH(ctx, m)
	}
	m.hostKeys = known
	return err
}

// enter connects to the clone, through the node where there is a way.
func (b *build) enter(ctx context.Context, m *made, address string) (packersdk.Communicator, error) {
	if b.node != nil {
		if err := b.prove(ctx, m.vmid); err != nil {
			return nil, err
		}
		if err := b.waitUp(ctx, m.vmid); err != nil {
			return nil, err
		}
		return pct.New(ctx, b.node, fmt.Sprint(m.vmid)), nil
	}
	conf := b.conf.Comm
	conf.SSHHost = ""
	if address == "" {
		return nil, errors.New("the clone has no address; hint: give network_adapters.ip, or host_ssh")
	}
	if conf.SSHBastionHost == "" && conf.SSHProxyHost == "" {
		if err := waitPort(ctx, net.JoinHostPort(address, strconv.Itoa(conf.SSHPort))); err != nil {
			return nil, err
		}
	}
	inner := new(multistep.BasicStateBag)
	inner.Put("ui", b.ui)
	inner.Put("build", &build{address: address})
	action, err := connectSSH(ctx, inner, &conf, m.hostKeys, true)
	if err == nil && action != multistep.ActionContinue {
		if said, ok := inner.GetOk("error"); ok {
			return nil, said.(error)
		}
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return inner.Get("communicator").(packersdk.Communicator), nil
}

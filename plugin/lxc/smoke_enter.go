package lxc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/communicator"
	"github.com/hashicorp/packer-plugin-sdk/multistep"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/plugin/lxc/pct"
)

// admits reports whether the smoke test's commands need the build's own key in
// the clone: there is neither a shell on the node nor a key or password that
// the template itself accepts.
func (c *Config) admits() bool {
	own := c.Comm.SSHPassword != "" || c.Comm.SSHPrivateKeyFile != "" || c.Comm.SSHAgentAuth
	return len(c.SmokeTest.Commands) > 0 && !c.SmokeTest.Skip && !c.SkipConvertToTemplate && !c.reachesNode() && !own
}

// admit lets the build's own key into the smoke test's clone. The template is
// sealed without it, and a clone takes no ssh-public-keys; but whoever may set
// a container's options may choose what runs in it as PID 1 (entrypoint,
// pve-container 6.0.15), which here adds the key and then becomes the init.
// Only the clone's configuration knows of it, and goes with the clone.
func (b *build) admit(ctx context.Context, m *made, now map[string]string) error {
	if now["entrypoint"] != "" {
		return fmt.Errorf("the template has an entrypoint of its own (%s): give host_ssh, or ssh_private_key_file with a key that it accepts", now["entrypoint"])
	}
	return b.api.Change(ctx, m.node, m.vmid, proxmox.Options{"entrypoint": admission(string(b.conf.Comm.SSHPublicKey))})
}

// admission is the entrypoint. liblxc takes quotes around a whole word and
// knows no escapes, so the script has no single quote. A key is type, base64
// and comment, of which the comment is left out.
func admission(publicKey string) string {
	key := strings.Join(strings.Fields(publicKey)[:2], " ")
	return `/bin/sh -c 'umask 077; mkdir -p /root/.ssh; echo "` + key + `" >>/root/.ssh/authorized_keys; exec /sbin/init'`
}

// enter connects to the clone, through the node where there is a way.
func (b *build) enter(ctx context.Context, m *made, address string) (packersdk.Communicator, error) {
	if b.node != nil {
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
	state := new(multistep.BasicStateBag)
	state.Put("ui", b.ui)
	connect := communicator.StepConnectSSH{Config: &conf, SSHConfig: conf.SSHConfigFunc(),
		Host: func(multistep.StateBag) (string, error) { return address, nil }}
	if connect.Run(ctx, state) != multistep.ActionContinue {
		if err, ok := state.GetOk("error"); ok {
			return nil, err.(error)
		}
		return nil, context.Cause(ctx)
	}
	return state.Get("communicator").(packersdk.Communicator), nil
}

package lxc

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/communicator"
	"github.com/hashicorp/packer-plugin-sdk/multistep"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"golang.org/x/crypto/ssh"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// hostKey is an SSH host key that the build gives to a container, as nothing
// tells it the one that a clone makes for itself at its first start.
type hostKey struct {
	private     string // base64, of the OpenSSH form
	fingerprint string
}

const (
	opensshBegin = "-----BEGIN OPENSSH PRIVATE KEY-----"
	opensshEnd   = "-----END OPENSSH PRIVATE KEY-----"
)

func newHostKey() (hostKey, error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return hostKey{}, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return hostKey{}, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return hostKey{}, err
	}
	return hostKey{base64.StdEncoding.EncodeToString(block.Bytes), ssh.FingerprintSHA256(key)}, nil
}

// entrypoint is what runs as PID 1 of a container, adds what SSH needs and then
// becomes the init: the host key, and the public key of who may come in, if
// any. liblxc takes quotes around a whole word and knows no escapes, so the
// script has no single quote. A key is type, base64 and comment, of which the
// comment is left out.
func entrypoint(host hostKey, admitted string) string {
	script := "umask 077; "
	if fields := strings.Fields(admitted); len(fields) > 1 {
		script += `mkdir -p /root/.ssh; echo "` + strings.Join(fields[:2], " ") + `" >>/root/.ssh/authorized_keys; `
	}
	script += `{ echo "` + opensshBegin + `"; echo "` + host.private + `"; echo "` + opensshEnd + `"; } >/etc/ssh/ssh_host_ed25519_key; `
	return `/bin/sh -c '` + script + `exec /sbin/init'`
}

// identify gives a container that is about to start a host key to be known by,
// and lets a key in. Whoever may set a container's options may choose what runs
// in it as PID 1 (entrypoint, pve-container 6.0.15): only its configuration
// knows of it. It returns the fingerprint; none where Proxmox is older, or the
// container has an entrypoint of its own.
func (b *build) identify(ctx context.Context, m *made, now map[string]string, admitted string) ([]string, error) {
	if !b.version.Env() || now["entrypoint"] != "" {
		b.ui.Say(fmt.Sprintf("The SSH host key of container %d is not known: whoever answers at its address is taken for it. "+
			"Proxmox VE 9.1, host_ssh or the communicator pct would tell.", m.vmid))
		return nil, nil
	}
	key, err := newHostKey()
	if err != nil {
		return nil, err
	}
	packersdk.LogSecretFilter.Set(key.private)
	err = b.api.Change(ctx, m.node, m.vmid, proxmox.Options{"entrypoint": entrypoint(key, admitted)})
	return []string{key.fingerprint}, err
}

// hostKeyError is a host key that is not the container's.
type hostKeyError struct{ got string }

func (e *hostKeyError) Error() string {
	return fmt.Sprintf("the SSH host key %s is none of the container's: another machine may have its address; "+
		"hint: look who else has it, build again, or use the communicator pct, which needs no address", e.got)
}

// verified is an SSH configuration that refuses a host key that is none of the
// known ones. Packer would go on trying until its timeout has passed, and not
// say why: refuse is told.
func verified(comm *communicator.Config, known []string, given bool, refuse func(error)) func(multistep.StateBag) (*ssh.ClientConfig, error) {
	plain := comm.SSHConfigFunc()
	return func(state multistep.StateBag) (*ssh.ClientConfig, error) {
		conf, err := plain(state)
		if err != nil || len(known) == 0 {
			return conf, err
		}
		if given { // beside it there may be keys of other kinds, which nobody knows
			conf.HostKeyAlgorithms = []string{ssh.KeyAlgoED25519}
		}
		conf.HostKeyCallback = func(_ string, _ net.Addr, key ssh.PublicKey) error {
			got := ssh.FingerprintSHA256(key)
			if slices.Contains(known, got) {
				return nil
			}
			err := &hostKeyError{got}
			refuse(err)
			return err
		}
		return conf, nil
	}
}

// connectSSH is Packer's own way to connect, with the host key verified.
func connectSSH(ctx context.Context, state multistep.StateBag, comm *communicator.Config, known []string, given bool) (multistep.StepAction, error) {
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	connect := communicator.StepConnectSSH{Config: comm, Host: sshHost, SSHConfig: verified(comm, known, given, refuse)}
	action := connect.Run(ctx, state)
	if wrong, ok := errors.AsType[*hostKeyError](context.Cause(ctx)); ok {
		return multistep.ActionHalt, wrong
	}
	return action, nil
}

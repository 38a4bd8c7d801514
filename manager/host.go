package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/host"
)

func (p *program) hostCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "host",
		Short: "run the root half on a node",
		Long: `Run the root half: the small service that does for the daemon what only root
can do on a Proxmox node. It brings JIT configs into containers that run, tells
of ends at once, sees a job's process, keeps what a container leaves, and mends
what a task left half-done.

It reads the daemon's own configuration, and of secrets the instance's key
alone. It touches no container outside of the VMID range and the runners'
resource pool, and none whose manifest the instance's key did not sign. The
daemon on the same node asks it over a Unix socket; one on another node over
TLS, with keys on both sides.`,
		Example: `  dayfly host --config /etc/dayfly/dayfly.hcl
  dayfly host keys pve2 pve3`,
		GroupID: groupServe,
		Args:    takes(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.serveHost(cmd.Context(), path) },
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "the daemon's configuration, a `FILE`")
	cmd.AddGroup(&cobra.Group{ID: groupOther, Title: "or:"})
	cmd.AddCommand(p.hostKeysCommand())
	return cmd
}

func (p *program) hostKeysCommand() *cobra.Command {
	var dir, key string
	cmd := &cobra.Command{
		Use:   "keys NODE...",
		Short: "make the keys by which the daemon and other nodes trust each other",
		Long: `Make the keys for root halves on nodes that the daemon is not on: a file for
each node, one for the daemon, and the authority's, which can stay where it is
and is used again for nodes that are added later.

Each file is secret. A node's file also carries the instance's key, by which
its root half knows the daemon's containers.`,
		Example: "  dayfly host keys --out /etc/dayfly/keys pve2 pve3",
		GroupID: groupOther,
		RunE: func(cmd *cobra.Command, nodes []string) error {
			if len(nodes) == 0 {
				return misuse(cmd, errors.New("missing NODE"))
			}
			return p.makeHostKeys(dir, key, nodes, time.Now())
		},
	}
	cmd.Flags().StringVar(&dir, "out", "/etc/dayfly/keys", "`FOLDER` of the keys")
	cmd.Flags().StringVar(&key, "instance-key", "/var/lib/dayfly/instance.key", "the daemon's, a `FILE`")
	return cmd
}

func (p *program) makeHostKeys(dir, instance string, nodes []string, now time.Time) error {
	for _, n := range nodes {
		if !nodeForm.MatchString(n) {
			return usageError{fmt.Errorf("%q is no name of a Proxmox node", n)}
		}
	}
	key, err := readSecretFile(instance, true)
	if err != nil {
		return hinted{fmt.Errorf("read instance key: %w", err), "the daemon makes it at its first start; name it with --instance-key"}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	authority, err := hostAuthority(filepath.Join(dir, "authority.pem"), now)
	if err != nil {
		return err
	}
	daemon := filepath.Join(dir, "daemon.pem")
	if _, err := os.Lstat(daemon); errors.Is(err, fs.ErrNotExist) {
		keys, err := authority.Daemon(now)
		if err != nil {
			return err
		}
		if err := writeDurably(daemon, keys.PEM.Reveal()); err != nil {
			return err
		}
		fmt.Fprintf(p.out, "%s: the daemon's, name it with host.keys_file\n", daemon)
	}
	for _, n := range nodes {
		keys, err := authority.Node(n, now)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, "node-"+n+".pem")
		text := keys.PEM.Reveal() + string(pem.EncodeToMemory(&pem.Block{Type: instanceBlock, Bytes: []byte(key)}))
		if err := writeDurably(path, text); err != nil {
			return err
		}
		fmt.Fprintf(p.out, "%s: move it to %s, and name it there with host.keys_file beside host.listen\n", path, n)
	}
	return nil
}

// hostAuthority reads the authority of the keys, or makes it.
func hostAuthority(path string, now time.Time) (*host.Authority, error) {
	text, err := readSecretFile(path, true)
	if err == nil {
		return host.ReadAuthority(fleet.NewSecret(text))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read authority %s: %w", path, err)
	}
	authority, err := host.NewAuthority(now)
	if err != nil {
		return nil, err
	}
	made, err := authority.PEM()
	if err != nil {
		return nil, err
	}
	return authority, writeDurably(path, made.Reveal())
}

package proxmox

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Nodes lists the cluster's nodes. A node that does not answer is offline.
func (c *Client) Nodes(ctx context.Context) ([]fleet.Node, error) {
	var list []struct {
		Node   text `json:"node"`
		Status text `json:"status"`
		// Only for who has Sys.Audit on the node.
		MaxMem integer `json:"maxmem"`
		Mem    integer `json:"mem"`
		MaxCPU integer `json:"maxcpu"`
	}
	if err := c.get(ctx, "/nodes", nil, &list); err != nil {
		return nil, fmt.Errorf("list nodes of Proxmox at %s: %w", c.conf.URL, err)
	}
	var nodes []fleet.Node
	for _, n := range list {
		nodes = append(nodes, fleet.Node{
			Name: string(n.Node), Online: n.Status == "online",
			Total: fleet.Room{MemoryMiB: int(n.MaxMem >> 20), Cores: int(n.MaxCPU)}, Used: fleet.Room{MemoryMiB: int(n.Mem >> 20)},
		})
	}
	return nodes, nil
}

// Version is a version of Proxmox VE.
type Version struct {
	Major, Minor, Patch int
	Text                string // "9.2.11"
}

func (v Version) String() string { return v.Text }

// Env reports whether containers have the option env, by which a JIT config is
// delivered without root: since pve-container 6.0.15 of November 2025.
func (v Version) Env() bool { return v.atLeast(9, 1) }

// SafeEnv reports whether a newline in env is surely refused by Proxmox too.
// From pve-container 6.0.18 to 6.1.7, both of Proxmox VE 9.1, whoever may set
// options could write raw lxc lines through it. The version of that package
// cannot be read without Sys.Audit.
func (v Version) SafeEnv() bool { return v.atLeast(9, 2) }

func (v Version) atLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// Version asks for the version of the node that answers.
func (c *Client) Version(ctx context.Context) (Version, error) {
	var answer struct {
		Version text `json:"version"`
	}
	if err := c.get(ctx, "/version", nil, &answer); err != nil {
		return Version{}, fmt.Errorf("ask version: %w", err)
	}
	return parseVersion(string(answer.Version)), nil
}

// parseVersion reads "9.2.11", "9.1-1" and "8.4".
func parseVersion(s string) Version {
	v := Version{Text: s}
	fields := strings.FieldsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	for i, part := range []*int{&v.Major, &v.Minor, &v.Patch} {
		if i < len(fields) {
			*part, _ = strconv.Atoi(fields[i]) // digits only; too many are 0
		}
	}
	return v
}

package proxmox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Problem is one thing that keeps dayfly from working, or will.
type Problem struct {
	What      string
	Path      string // of the missing privilege
	Privilege string
	Command   string // that mends it, for root on a node
	Role      string // the command that gives the role of Command the privilege
	Fix       string // what to do, where no one command does it
	Advice    bool   // nothing fails for it now
}

// Hint is what to do: words, or a line for root's shell on a node.
func (p Problem) Hint() string {
	if p.Role != "" {
		return p.Role + "; " + p.Command
	}
	return cmp.Or(p.Command, p.Fix)
}

func (p Problem) String() string {
	if hint := p.Hint(); hint != "" {
		return p.What + "; hint: " + hint
	}
	return p.What
}

// role is one of the roles that dayfly's documentation makes.
type role struct {
	name  string
	privs []string
}

var (
	runnersRole = role{"DayflyRunners", []string{"VM.Allocate", "VM.Audit", "VM.PowerMgmt", "VM.Config.Options",
		"VM.Config.Network", "VM.Config.CPU", "VM.Config.Memory", "Pool.Audit"}}
	templatesRole = role{"DayflyTemplates", []string{"VM.Clone", "VM.Audit", "Pool.Audit"}}
	storageRole   = role{"DayflyStorage", []string{"Datastore.AllocateSpace", "Datastore.Audit"}}
	netRole       = role{"DayflyNet", []string{"SDN.Use"}}
)

// need is one privilege that something takes.
type need struct {
	path, priv string
	role       role
	why        string
	advice     bool
}

// Check looks for everything that would fail later: missing privileges, wrong
// versions, resource pools that are not there, a VMID range that others use,
// and storages or bridges that the pools' templates need. It changes nothing.
func (c *Client) Check(ctx context.Context, pools []fleet.Pool, nodes []string) ([]Problem, error) {
	version, err := c.Version(ctx)
	if err != nil {
		return nil, fmt.Errorf("check Proxmox: %w", err)
	}
	problems := append(checkVersion(version), checkEgress(pools)...)
	needs := c.poolNeeds(pools)
	absent, more, err := c.checkPools(ctx)
	if err != nil {
		return nil, fmt.Errorf("check resource pools: %w", err)
	}
	problems, needs = append(problems, absent...), append(needs, more...)
	for _, node := range nodes {
		found, more, err := c.checkNode(ctx, node, pools)
		if errors.Is(err, fleet.ErrDenied) || errors.Is(err, fleet.ErrNotFound) {
			continue // a missing resource pool or privilege, said already
		}
		if err != nil {
			problems = append(problems, Problem{What: err.Error()})
			continue
		}
		problems = append(problems, found...)
		needs = append(needs, more...)
	}
	missing, err := c.missing(ctx, needs)
	if err != nil {
		return nil, fmt.Errorf("check privileges: %w", err)
	}
	problems = append(problems, missing...)
	others, err := c.checkRange(ctx, nodes)
	if err != nil {
		return nil, fmt.Errorf("check VMID range: %w", err)
	}
	return append(problems, others...), nil
}

func checkVersion(v Version) []Problem {
	switch {
	case !v.Env():
		return []Problem{{What: fmt.Sprintf("Proxmox VE %s has no container option env: a JIT config cannot be delivered by env", v),
			Fix: "upgrade the nodes to Proxmox VE 9.1 or later"}}
	case !v.SafeEnv():
		return []Problem{{Advice: true, What: fmt.Sprintf("Proxmox VE %s may take a newline in env, which makes a token that sets options as good as root", v),
			Fix: "run \"apt update && apt install pve-container\" and see that it is 6.1.8 or later"}}
	}
	return nil
}

// checkEgress says what a pool's egress cannot promise by itself. Only Sys.Audit
// on / would show whether the datacenter's firewall is on.
func checkEgress(pools []fleet.Pool) []Problem {
	var problems []Problem
	for _, p := range pools {
		if p.Egress.Policy != fleet.Everything {
			problems = append(problems, Problem{Advice: true,
				What: fmt.Sprintf("pool %s limits what its jobs reach: without a root half on a node nobody waits there for the firewall's rules, and if Proxmox VE's firewall is off, there are none", p.Name),
				Fix:  `see that "pve-firewall status" says enabled/running on every node`})
		}
	}
	return problems
}

// poolNeeds are the privileges on the two resource pools.
func (c *Client) poolNeeds(pools []fleet.Pool) []need {
	runners, templates := "/pool/"+c.conf.RunnerPool, "/pool/"+c.conf.TemplatePool
	needs := []need{
		{runners, "VM.Allocate", runnersRole, "to make and destroy containers", false},
		{runners, "VM.Audit", runnersRole, "to see containers", false},
		{runners, "VM.PowerMgmt", runnersRole, "to start containers", false},
		{runners, "VM.Config.Options", runnersRole, "to set environment and manifest", false},
		{templates, "VM.Clone", templatesRole, "to clone templates", false},
		{templates, "VM.Audit", templatesRole, "to see templates", false},
	}
	for _, p := range pools {
		why := "for the %s of pool " + p.Name
		if p.Size.Cores > 0 {
			needs = append(needs, need{runners, "VM.Config.CPU", runnersRole, fmt.Sprintf(why, "cores"), false})
		}
		if p.Size.CPUUnits > 0 {
			needs = append(needs, need{runners, "VM.Config.CPU", runnersRole, fmt.Sprintf(why, "CPU units"), false})
		}
		if p.Size.MemoryMiB > 0 || p.Size.SwapMiB != 0 {
			needs = append(needs, need{runners, "VM.Config.Memory", runnersRole, fmt.Sprintf(why, "memory"), false})
		}
		if p.Size.DiskMiB > 0 {
			needs = append(needs, need{runners, "VM.Config.Disk", runnersRole, fmt.Sprintf(why, "disk"), false})
		}
		if p.Network != (fleet.Network{}) || p.Egress.Policy != fleet.Everything {
			needs = append(needs, need{runners, "VM.Config.Network", runnersRole, fmt.Sprintf(why, "network"), false})
		}
	}
	return needs
}

// checkNode looks at the templates that pools use on a node, and at what their
// clones need there.
func (c *Client) checkNode(ctx context.Context, node string, pools []fleet.Pool) ([]Problem, []need, error) {
	l, err := c.List(ctx, node)
	if err != nil {
		return nil, nil, err
	}
	var problems []Problem
	var needs []need
	for _, u := range l.Unusable {
		problems = append(problems, Problem{Advice: true, What: fmt.Sprintf("template %d (%s) on node %s is not used: %s", u.VMID, u.Name, node, u.Why)})
	}
	for _, f := range l.Foreign {
		problems = append(problems, Problem{What: fmt.Sprintf("container %d (%s) on node %s is left alone: %s", f.VMID, f.Name, node, f.Why), Fix: foreignFix})
	}
	for _, t := range l.Templates {
		users := usersOf(pools, t)
		if len(users) == 0 {
			continue
		}
		s, err := c.settings(ctx, node, t.VMID)
		if err != nil {
			return nil, nil, fmt.Errorf("configuration of template %d: %w", t.VMID, err)
		}
		why := fmt.Sprintf("to clone template %d (%s)", t.VMID, t.Ref)
		needs = append(needs, need{"/storage/" + t.Storage, "Datastore.AllocateSpace", storageRole, why, false})
		own := parseNet(string(s["net0"]))
		if own["bridge"] != "" {
			needs = append(needs, need{own.zone(), "SDN.Use", netRole, why, false})
		}
		for _, p := range users {
			if p.Network != (fleet.Network{}) {
				needs = append(needs, need{own.plug(p.Network).zone(), "SDN.Use", netRole, "for the network of pool " + p.Name, false})
			}
			if why := p.Misfit(t); why != "" {
				problems = append(problems, Problem{What: fmt.Sprintf("pool %s does not use template %d (%s) on node %s: %s", p.Name, t.VMID, t.Ref, node, why), Fix: "change the pool, or bake a template that suits it"})
			}
		}
		switch {
		case t.Outdated != "":
			problems = append(problems, Problem{What: fmt.Sprintf("template %d (%s) on node %s is not used: %s", t.VMID, t.Ref, node, t.Outdated), Fix: "bake it again with the plugin of this dayfly's release"})
		case l.Info[t.VMID].Contract == "":
			problems = append(problems, Problem{Advice: true, What: fmt.Sprintf(
				"template %d (%s) on node %s does not say which contract its guest keeps: it was baked without the provisioner dayfly-runner, or by an older plugin; it is used",
				t.VMID, t.Ref, node)})
		}
		if t.Full {
			problems = append(problems, Problem{Advice: true, What: fmt.Sprintf(
				"template %d (%s) on node %s is on storage %s, which makes no linked clones: each clone copies all files, which takes minutes",
				t.VMID, t.Ref, node, t.Storage)})
		}
	}
	return problems, needs, nil
}

func usersOf(pools []fleet.Pool, t fleet.Template) []fleet.Pool {
	var users []fleet.Pool
	for _, p := range pools {
		same := p.Template.Family == t.Family && (p.Template.Version == "" || p.Template.Version == t.Version)
		if same && (len(p.Nodes) == 0 || slices.Contains(p.Nodes, t.Node)) {
			users = append(users, p)
		}
	}
	return users
}

// foreignFix is for a guest in our range that does not prove to be ours.
const foreignFix = "give proxmox.vmids a range that nothing else uses; if this dayfly made it, bring back the instance.key it was made with, or destroy it by hand"

// zone is the path on which SDN.Use is asked: that of the VLAN on the bridge,
// and of nothing above it (pve-guest-common, GuestHelpers.pm). A vnet's zone
// is not known here; missing finds it.
func (n iface) zone() string {
	path := "/sdn/zones/localnetwork/" + n["bridge"]
	if n["tag"] != "" {
		path += "/" + n["tag"]
	}
	return path
}

// missing asks for the token's effective privileges, those of user and token
// both.
func (c *Client) missing(ctx context.Context, needs []need) ([]Problem, error) {
	var all map[string]map[string]boolean // privileges, by path; true: inherited below
	if err := c.get(ctx, "/access/permissions", nil, &all); err != nil {
		return nil, err
	}
	var problems []Problem
	slices.SortStableFunc(needs, func(a, b need) int {
		return cmp.Or(strings.Compare(a.path, b.path), strings.Compare(a.priv, b.priv))
	})
	needs = slices.CompactFunc(needs, func(a, b need) bool { return a.path == b.path && a.priv == b.priv })
	for _, n := range needs {
		n.path = vnet(n.path, all)
		has, err := c.has(ctx, n, all)
		if err != nil {
			return nil, err
		}
		if !has {
			problems = append(problems, c.lacking(n))
		}
	}
	return problems, nil
}

// vnet finds the zone of a bridge that is a vnet, by the privileges on it.
func vnet(path string, all map[string]map[string]boolean) string {
	rest, ok := strings.CutPrefix(path, "/sdn/zones/localnetwork/")
	if _, known := all[path]; !ok || known {
		return path
	}
	for p := range all {
		if strings.HasPrefix(p, "/sdn/zones/") && strings.HasSuffix(p, "/"+rest) {
			return p
		}
	}
	return path
}

// has looks up one privilege. The list names the paths that have an entry of
// their own; for any other, Proxmox is asked, as an entry between may take
// away what one above gives.
func (c *Client) has(ctx context.Context, n need, all map[string]map[string]boolean) (bool, error) {
	if privs, ok := all[n.path]; ok {
		_, has := privs[n.priv]
		return has, nil
	}
	var one map[string]map[string]boolean
	err := c.get(ctx, "/access/permissions", url.Values{"path": {n.path}}, &one)
	if errors.Is(err, fleet.ErrInvalid) {
		return false, nil // no such path: a resource pool or storage with an impossible name
	}
	_, has := one[n.path][n.priv]
	return has, err
}

// lacking is the problem of a missing privilege. Both user and token need the
// entry: a token has what both have. Effective privileges do not tell whether
// the entry is missing, or the role, or the privilege in the role: the commands
// together mend all three, and say no more than that it was there already.
func (c *Client) lacking(n need) Problem {
	privs := n.role.privs
	if !slices.Contains(privs, n.priv) { // one that few pools need
		privs = append(slices.Clone(privs), n.priv)
	}
	return Problem{
		What:      fmt.Sprintf("token %s has no %s on %s (%s)", c.tokenID, n.priv, n.path, n.why),
		Path:      n.path,
		Privilege: n.priv,
		Command:   fmt.Sprintf("pveum acl modify %s --users '%s' --tokens '%s' --roles %s", n.path, c.user, c.tokenID, n.role.name),
		Role: fmt.Sprintf("pveum role modify %s --append 1 --privs %s || pveum role add %[1]s --privs %[3]s",
			n.role.name, n.priv, strings.Join(privs, ",")),
		Advice: n.advice,
	}
}

// checkPools looks for resource pools that are not there or not readable.
func (c *Client) checkPools(ctx context.Context) ([]Problem, []need, error) {
	var problems []Problem
	var needs []need
	for _, p := range []struct {
		name string
		role role
	}{{c.conf.RunnerPool, runnersRole}, {c.conf.TemplatePool, templatesRole}} {
		_, err := c.membersOf(ctx, p.name)
		switch {
		case errors.Is(err, fleet.ErrNotFound):
			problems = append(problems, Problem{
				What:    "there is no resource pool " + p.name,
				Path:    "/pool/" + p.name,
				Command: "pveum pool add " + p.name,
			})
		case errors.Is(err, fleet.ErrDenied):
			needs = append(needs, need{"/pool/" + p.name, "Pool.Audit", p.role, "to know which containers are in the resource pool", false})
		case err != nil:
			return nil, nil, err
		}
	}
	return problems, needs, nil
}

// checkRange looks for guests in our range that are not ours, as far as the
// token can see them. The containers of nodes have been looked at.
func (c *Client) checkRange(ctx context.Context, nodes []string) ([]Problem, error) {
	runners, err := c.membersOf(ctx, c.conf.RunnerPool)
	if err != nil {
		return nil, nil // said already
	}
	var problems []Problem
	var list []struct {
		VMID integer `json:"vmid"`
		Node text    `json:"node"`
		Type text    `json:"type"`
		Name text    `json:"name"`
	}
	if err := c.get(ctx, "/cluster/resources", url.Values{"type": {"vm"}}, &list); err != nil {
		return nil, err
	}
	for _, g := range list {
		id := fleet.VMID(g.VMID)
		looked := g.Type == "lxc" && slices.Contains(nodes, string(g.Node))
		if c.inRange(id) == nil && !runners[id] && !looked {
			problems = append(problems, Problem{What: fmt.Sprintf("VMID %d (%s %s on node %s) is in the range %d to %d but not in resource pool %s",
				id, g.Type, g.Name, g.Node, c.conf.First, c.conf.Last, c.conf.RunnerPool), Fix: foreignFix})
		}
	}
	return problems, nil
}

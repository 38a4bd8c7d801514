package pve

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// guarded is the cluster's lock. Whoever gives it back publishes what has
// changed.
type guarded struct {
	sync.Mutex
	leave func()
}

// Unlock gives the lock back.
func (g *guarded) Unlock() {
	g.leave()
	g.Mutex.Unlock()
}

// PublishTo tells who keeps the files of /etc/pve of every one that there is,
// and from then on of every one that changes, as a Machine is told: for a
// cluster that has none. It is called under the cluster's lock.
func (c *Cluster) PublishTo(keep func(name, text string)) {
	c.enter()
	defer c.mu.Unlock()
	c.keeper, c.told = keep, nil
}

// publish tells the machine of every file of /etc/pve that has changed.
func (c *Cluster) publish() {
	if c.keeper == nil {
		return
	}
	now := map[string]string{}
	tell := func(name, text string) {
		now[name] = text
		if was, there := c.told[name]; !there || was != text {
			c.keeper(name, text)
		}
	}
	tell("user.cfg", c.poolsText())
	for vmid, t := range c.cts {
		tell(fmt.Sprintf("nodes/%s/lxc/%d.conf", t.node, vmid), t.conf.text())
	}
	for vmid, f := range c.firewall {
		tell(fmt.Sprintf("firewall/%d.fw", vmid), f.text())
	}
	for name := range c.told {
		if _, there := now[name]; !there {
			c.keeper(name, "")
		}
	}
	c.told = now
}

// poolsText is what /etc/pve/user.cfg says of the resource pools.
func (c *Cluster) poolsText() string {
	var b strings.Builder
	for _, id := range sortedKeys(c.pools) {
		var vmids, stores []string
		for _, t := range c.sorted() {
			if c.member[t.vmid] == id {
				vmids = append(vmids, strconv.Itoa(t.vmid))
			}
		}
		for _, s := range c.sortedStores() {
			if s.pool == id {
				stores = append(stores, s.ID)
			}
		}
		fmt.Fprintf(&b, "pool:%s:%s:%s:%s:\n", id, encodeText(c.pools[id].comment), strings.Join(vmids, ","), strings.Join(stores, ","))
	}
	return b.String()
}

// SetFirewall writes a container's firewall file, as an editor would. Clones
// get a copy of it.
func (c *Cluster) SetFirewall(vmid int, options map[string]string, rules ...map[string]string) {
	c.enter()
	defer c.mu.Unlock()
	f := &fwConf{options: copyMap(options)}
	for _, r := range rules {
		f.rules = append(f.rules, copyMap(r))
	}
	c.firewall[vmid] = f
}

// Firewall is a container's firewall: its options, and its rules in their
// order.
func (c *Cluster) Firewall(vmid int) (options map[string]string, rules []map[string]string) {
	c.enter()
	defer c.mu.Unlock()
	f := c.firewall[vmid]
	if f == nil {
		return nil, nil
	}
	f = f.clone()
	return f.options, f.rules
}

// text is the firewall file (PVE::Firewall::save_vmfw_conf).
func (f *fwConf) text() string {
	var b strings.Builder
	section := func(head string, n int, body func()) {
		if n > 0 {
			fmt.Fprintf(&b, "[%s]\n\n", head)
			body()
			b.WriteString("\n")
		}
	}
	section("OPTIONS", len(f.options), func() { b.WriteString(mapText(f.options)) })
	section("ALIASES", len(f.aliases), func() {
		for _, a := range f.aliases {
			fmt.Fprintf(&b, "%s %s\n", a.name, a.cidr)
		}
	})
	for _, s := range f.sets {
		section("IPSET "+s.name, 1, func() {
			for _, m := range s.members {
				b.WriteString(map[bool]string{true: "!"}[m.nomatch] + m.cidr + "\n")
			}
		})
	}
	section("RULES", len(f.rules), func() {
		for _, r := range f.rules {
			b.WriteString(ruleLine(r) + "\n")
		}
	})
	return b.String()
}

// ruleLine is one rule of the file.
func ruleLine(r map[string]string) string {
	var b strings.Builder
	if r["enable"] != "1" {
		b.WriteString("|")
	}
	head := strings.ToUpper(r["type"])
	if m := r["macro"]; m != "" {
		fmt.Fprintf(&b, "%s %s(%s)", head, m, r["action"])
	} else {
		fmt.Fprintf(&b, "%s %s", head, r["action"])
	}
	for _, k := range []string{"iface", "source", "dest", "proto", "dport", "sport"} {
		if v := r[k]; v != "" {
			fmt.Fprintf(&b, " -%s %s", k, v)
		}
	}
	return b.String()
}

package proxmox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Container is one container of ours.
type Container struct {
	Node      string
	VMID      fleet.VMID
	Name      string
	State     fleet.Container
	Lock      string // "create", "disk", "destroyed", ...; empty: none
	Manifest  Manifest
	Launched  bool // an environment is set, or the manifest says so: a JIT config may be in it
	Storage   string
	Protected bool
	Started   time.Time // zero: not running
}

// Foreign is a container that we must not touch: one in our range that is not
// ours, or one in our resource pool that is outside the range.
type Foreign struct {
	VMID fleet.VMID
	Name string
	Lock string
	Why  string
}

// Listing is everything on one node that concerns us.
type Listing struct {
	Node      string
	AsOf      time.Time // when the request began: later changes may be missing
	Owned     []Container
	Foreign   []Foreign
	Templates []fleet.Template
	Info      map[fleet.VMID]TemplateInfo // of templates whose manifest can be read
	Mistagged map[fleet.VMID]string       // how tags of Templates contradict their manifest
	Unusable  []Foreign                   // templates in their resource pool that must not be cloned
	Settings  map[fleet.VMID]settings     // of Owned, for Drift
	Walls     map[fleet.VMID]firewall     // of Owned, for Drift, as far as they are known
}

// guest is one line of GET /nodes/N/lxc.
type guest struct {
	VMID     integer `json:"vmid"`
	Name     text    `json:"name"`
	Status   text    `json:"status"`
	Lock     text    `json:"lock"`
	Template boolean `json:"template"`
	Tags     text    `json:"tags"`
	Uptime   integer `json:"uptime"`
	// Compared, as they come: they show that the configuration changed.
	CPUs    text `json:"cpus"`
	MaxMem  text `json:"maxmem"`
	MaxSwap text `json:"maxswap"`
	MaxDisk text `json:"maxdisk"`
}

func (g guest) id() fleet.VMID { return fleet.VMID(g.VMID) }

// List lists one node. It is complete and live, unlike /cluster/resources,
// whose status and names are up to 20 s old. It blocks while a start task of
// the node runs.
func (c *Client) List(ctx context.Context, node string) (Listing, error) {
	l, err := c.list(ctx, node)
	if err != nil {
		return Listing{}, fmt.Errorf("list containers of node %s: %w", node, err)
	}
	return l, nil
}

func (c *Client) list(ctx context.Context, node string) (Listing, error) {
	l := Listing{Node: node, AsOf: time.Now(), Info: map[fleet.VMID]TemplateInfo{}, Mistagged: map[fleet.VMID]string{}}
	guests, err := c.guestsOf(ctx, node)
	if err != nil {
		return l, err
	}
	runners, templates, err := c.pools(ctx, guests)
	if err != nil {
		return l, err
	}
	c.guests.prune(node, guests)
	var ours []guest
	for _, g := range guests {
		if why := c.foreign(g, runners); why != "" {
			l.Foreign = append(l.Foreign, Foreign{g.id(), string(g.Name), string(g.Lock), why})
		}
		if templates.has(g, runners) || c.candidate(g, runners) {
			ours = append(ours, g)
		}
	}
	known, err := c.settingsOf(ctx, node, ours)
	if err != nil {
		return l, err
	}
	for _, g := range ours {
		if s, ok := known[g.id()]; ok {
			l.add(ctx, c, g, s)
		}
	}
	l.Walls = c.wallsOf(ctx, node, l.Owned)
	return l, nil
}

// candidate reports whether g may be ours, by resource pool and range.
func (c *Client) candidate(g guest, runners map[fleet.VMID]bool) bool {
	return runners[g.id()] && c.inRange(g.id()) == nil && !bool(g.Template)
}

// foreign says why g is foreign as far as the listing shows, or nothing.
func (c *Client) foreign(g guest, runners map[fleet.VMID]bool) string {
	inRange, member := c.inRange(g.id()) == nil, runners[g.id()]
	switch {
	case inRange && !member && g.Lock == "create":
		return fmt.Sprintf("half-made and not in resource pool %s (lock create)", c.conf.RunnerPool)
	case inRange && !member:
		return fmt.Sprintf("not in resource pool %s", c.conf.RunnerPool)
	case member && !inRange:
		return fmt.Sprintf("in resource pool %s, but outside the range %d to %d", c.conf.RunnerPool, c.conf.First, c.conf.Last)
	case member && bool(g.Template):
		return "a template"
	}
	return ""
}

// add sorts one container whose configuration is known.
func (l *Listing) add(ctx context.Context, c *Client, g guest, s settings) {
	if g.Template {
		l.addTemplate(ctx, c, g, s)
		return
	}
	m, err := Verify(s.description(), c.conf.Key, g.id(), string(g.Name))
	if err != nil {
		l.Foreign = append(l.Foreign, Foreign{g.id(), string(g.Name), string(g.Lock), err.Error()})
		return
	}
	owned := Container{
		Node: l.Node, VMID: g.id(), Name: string(g.Name), State: g.state(m), Lock: string(g.Lock),
		Manifest: m, Launched: s["env"] != "" || m.Launched, Storage: s.storage(), Protected: s.protected(),
	}
	if owned.State == fleet.Running {
		// uptime was seen negative right after a start
		owned.Started = l.AsOf.Add(-time.Duration(max(g.Uptime, 0)) * time.Second)
	}
	if l.Settings == nil {
		l.Settings = map[fleet.VMID]settings{}
	}
	l.Settings[owned.VMID] = s
	l.Owned = append(l.Owned, owned)
}

func (g guest) state(m Manifest) fleet.Container {
	switch {
	case g.Status == "running":
		return fleet.Running
	case g.Lock == "create", !m.Configured:
		return fleet.Creating
	case g.Status == "stopped":
		return fleet.Stopped
	default:
		return fleet.Unseen
	}
}

func (l *Listing) addTemplate(ctx context.Context, c *Client, g guest, s settings) {
	unusable := func(why string) {
		l.Unusable = append(l.Unusable, Foreign{g.id(), string(g.Name), string(g.Lock), why})
	}
	info, err := ReadTemplate(s.description())
	if err != nil {
		unusable(err.Error())
		return
	}
	l.Info[g.id()] = info
	tags := splitTags(string(g.Tags))
	if why := unready(tags, info); why != "" {
		unusable(why)
		return
	}
	if why := mistagged(tags, info); why != "" {
		l.Mistagged[g.id()] = why
	}
	l.Templates = append(l.Templates, fleet.Template{
		Ref: info.Ref(), Node: l.Node, VMID: g.id(), Storage: s.storage(),
		Locked: g.Lock != "", Full: c.full(ctx, s.storage()), DiskMiB: cmp.Or(s.disk(), int(g.MaxDisk.int()>>20)),
		Build: info.Build, Copy: info.Replica > 0, Runner: info.Runner, Built: info.BuiltAt,
		NoEnv: info.noEnv(), Outdated: info.Foreign(),
	})
}

func (c *Client) guestsOf(ctx context.Context, node string) ([]guest, error) {
	var guests []guest
	if err := c.get(ctx, "/nodes/"+url.PathEscape(node)+"/lxc", nil, &guests); err != nil {
		return nil, err
	}
	slices.SortFunc(guests, func(a, b guest) int { return int(a.VMID - b.VMID) })
	return guests, nil
}

// guest looks for one container in the listing, the only proof of existence:
// to a token, one that is gone and one that it may not see are both 403.
func (c *Client) guest(ctx context.Context, node string, id fleet.VMID) (guest, bool, error) {
	guests, err := c.guestsOf(ctx, node)
	if err != nil {
		return guest{}, false, err
	}
	i := slices.IndexFunc(guests, func(g guest) bool { return g.id() == id })
	if i < 0 {
		return guest{}, false, nil
	}
	return guests[i], true, nil
}

// membersLife is how long the members of the resource pools are good for.
const membersLife = 30 * time.Second

// membership is what the resource pools held when they were read last.
type membership struct {
	mu        sync.Mutex
	at        time.Time
	runners   map[fleet.VMID]bool
	templates catalogue
}

// pools returns the members of both resource pools. They are asked for again
// when a guest is listed that was in neither, and every half minute: a listing
// is made every few seconds, and a guest rarely changes its resource pool. They
// are read after the listing: a container that is destroyed in between then
// counts as gone, rather than one that was just made counting as foreign.
func (c *Client) pools(ctx context.Context, guests []guest) (map[fleet.VMID]bool, catalogue, error) {
	m := &c.pooled
	m.mu.Lock()
	at, runners, templates := m.at, m.runners, m.templates
	m.mu.Unlock()
	known := func(g guest) bool {
		// A clone joins its resource pool last, so one that is half-made is in none.
		return g.Lock == "create" || runners[g.id()] || templates[g.id()] || templates == nil && bool(g.Template) || c.inRange(g.id()) != nil && !bool(g.Template)
	}
	if time.Since(at) < membersLife && !slices.ContainsFunc(guests, func(g guest) bool { return !known(g) }) {
		return runners, templates, nil
	}
	at = time.Now()
	runners, err := c.membersOf(ctx, c.conf.RunnerPool)
	if err != nil {
		return nil, nil, err
	}
	if templates, err = c.catalogue(ctx); err != nil {
		return nil, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if at.After(m.at) {
		m.at, m.runners, m.templates = at, runners, templates
	}
	return runners, templates, nil
}

// joined notes a clone that its task has put into the resource pool of runners,
// so that its first listing need not ask for all members again.
func (m *membership) joined(id fleet.VMID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.runners = maps.Clone(m.runners) // a listing may be reading it
	if m.runners != nil {
		m.runners[id] = true
	}
}

// membersOf lists the containers of a resource pool, in the whole cluster, as
// far as the token may see them. It is answered from user.cfg and the
// cluster's list of guests, both live; the pool column of /cluster/resources
// says the same but comes with all other guests, and only with Pool.Audit.
// Proxmox VE 9.2 answers this without Pool.Audit; believed: older ones may not.
// /pools/{poolid} knows no nested resource pools.
func (c *Client) membersOf(ctx context.Context, pool string) (map[fleet.VMID]bool, error) {
	var list []struct {
		Members []struct {
			VMID integer `json:"vmid"`
			Type text    `json:"type"`
		} `json:"members"`
	}
	err := c.get(ctx, "/pools", url.Values{"poolid": {pool}}, &list)
	if err != nil {
		return nil, fmt.Errorf("resource pool %s: %w", pool, err)
	}
	ids := map[fleet.VMID]bool{}
	for _, p := range list {
		for _, m := range p.Members {
			if m.Type == "lxc" {
				ids[fleet.VMID(m.VMID)] = true
			}
		}
	}
	return ids, nil
}

// catalogue is the resource pool of templates, or nil where the token may
// clone from it but not list it. Then every template counts that the token can
// see and that is no runner's container.
type catalogue map[fleet.VMID]bool

func (t catalogue) has(g guest, runners map[fleet.VMID]bool) bool {
	return bool(g.Template) && (t[g.id()] || t == nil && !runners[g.id()])
}

func (c *Client) catalogue(ctx context.Context) (catalogue, error) {
	ids, err := c.membersOf(ctx, c.conf.TemplatePool)
	if errors.Is(err, fleet.ErrDenied) {
		return nil, nil
	}
	return ids, err
}

// settingsOf reads the configurations of guests, those that are not known from
// before. A container that is gone by now is left out.
func (c *Client) settingsOf(ctx context.Context, node string, guests []guest) (map[fleet.VMID]settings, error) {
	known := map[fleet.VMID]settings{}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(c.conf.Requests-1, 1)) // leave room for what acts
	for _, g := range guests {
		if s, ok := c.guests.find(node, g); ok {
			mu.Lock()
			known[g.id()] = s
			mu.Unlock()
			continue
		}
		group.Go(func() error {
			mark := c.guests.mark(g.id())
			s, err := c.settings(ctx, node, g.id())
			if errors.Is(err, fleet.ErrDenied) || errors.Is(err, fleet.ErrNotFound) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("configuration of %d: %w", g.id(), err)
			}
			s = s.discreet() // a JIT config is not kept in memory
			c.guests.keep(node, g, s, mark)
			mu.Lock()
			defer mu.Unlock()
			known[g.id()] = s
			return nil
		})
	}
	return known, group.Wait()
}

// settings reads a configuration. It stays quick while tasks run.
func (c *Client) settings(ctx context.Context, node string, id fleet.VMID) (settings, error) {
	var s settings
	err := c.get(ctx, container(node, id, "/config"), nil, &s)
	return s, err
}

package pve

import (
	"sort"
	"strings"
)

// access is user.cfg without the resource pools.
type access struct {
	users map[string]*user
	roles map[string]privs
	own   map[string]bool // roles that are not built in
	acl   map[string]*aclEntry
}

type user struct {
	id       string
	groups   []string
	password string
	disabled bool
	expire   int64
	comment  string
	tokens   map[string]*token
}

type token struct {
	secret  string
	privsep bool
	expire  int64
	comment string
}

// aclEntry is what is granted at one path: role -> propagate, by who.
type aclEntry struct {
	users, tokens, groups map[string]map[string]bool
}

func newAccess(release string) access {
	return access{
		users: map[string]*user{"root@pam": {id: "root@pam", tokens: map[string]*token{}}},
		roles: builtinRoles(release), own: map[string]bool{}, acl: map[string]*aclEntry{},
	}
}

func (a *access) entry(path string) *aclEntry {
	e := a.acl[path]
	if e == nil {
		e = &aclEntry{users: map[string]map[string]bool{}, tokens: map[string]map[string]bool{}, groups: map[string]map[string]bool{}}
		a.acl[path] = e
	}
	return e
}

// grants is the map of an entry that holds who's roles.
func (e *aclEntry) grants(who string) (map[string]map[string]bool, string) {
	switch {
	case strings.HasPrefix(who, "@"):
		return e.groups, who[1:]
	case strings.Contains(who, "!"):
		return e.tokens, who
	}
	return e.users, who
}

func (a *access) grant(path, role string, propagate bool, who string) {
	m, id := a.entry(path).grants(who)
	if m[id] == nil {
		m[id] = map[string]bool{}
	}
	m[id][role] = propagate
}

func (a *access) revoke(path, role, who string) {
	m, id := a.entry(path).grants(who)
	delete(m[id], role)
	if len(m[id]) == 0 {
		delete(m, id)
	}
}

// tokenOf finds a token by its full id, "user@realm!name".
func (a *access) tokenOf(id string) (*user, *token) {
	owner, name, ok := strings.Cut(id, "!")
	if !ok {
		return nil, nil
	}
	u := a.users[owner]
	if u == nil {
		return nil, nil
	}
	return u, u.tokens[name]
}

// grant is what somebody may do at a path: the privileges, and those of them
// that also hold below it. A role with no privileges, NoAccess, counts.
type grant struct {
	have, below privs
	any         bool // there is a role at all
	none        bool // NoAccess is one of them
}

// grantAt is what the roles of a user or token at a path give, without those
// that come from resource pools. The deepest entry that names the holder
// replaces what stands above it, and an own entry beats one of a group
// (PVE::AccessControl::roles).
func (a *access) grantAt(who, path string) grant {
	if who == "root@pam" {
		all := a.roles["Administrator"]
		return grant{have: all, below: all, any: true}
	}
	h := holder{id: who, token: strings.Contains(who, "!")}
	if h.token {
		u, t := a.tokenOf(who)
		if t == nil {
			return grant{}
		}
		if !t.privsep {
			return a.grantAt(u.id, path)
		}
	} else if u := a.users[who]; u != nil {
		h.groups = u.groups
	}
	var g grant
	for end := 0; ; {
		prefix := path[:end]
		if end == 0 {
			prefix = "/"
		}
		final := end >= len(path) || path == "/"
		if e := a.acl[prefix]; e != nil {
			if at := a.grantIn(e, h, final); at.any {
				g = at
			}
		}
		if final {
			break
		}
		if next := strings.IndexByte(path[end+1:], '/'); next < 0 {
			end = len(path)
		} else {
			end += 1 + next
		}
	}
	if g.none {
		return grant{any: true, none: true}
	}
	return g
}

// holder is who an ACL entry may name.
type holder struct {
	id     string
	token  bool
	groups []string
}

// grantIn is what one entry gives to a holder.
func (a *access) grantIn(e *aclEntry, h holder, final bool) grant {
	var g grant
	add := func(granted map[string]bool) {
		for role, propagate := range granted {
			if !final && !propagate {
				continue
			}
			g.any = true
			g.none = g.none || role == "NoAccess"
			g.have |= a.roles[role]
			if propagate {
				g.below |= a.roles[role]
			}
		}
	}
	if h.token {
		add(e.tokens[h.id])
		return g
	}
	if add(e.users[h.id]); g.any {
		return g
	}
	for _, name := range h.groups {
		add(e.groups[name])
	}
	return g
}

// permissions are the effective privileges of a user or token at a path
// (PVE::RPCEnvironment::permissions): the roles there, those that the resource
// pool of a container or storage gives, and for a privilege separated token
// only what its owner has too.
func (c *Cluster) permissions(who, path string) grant {
	g := c.access.grantAt(who, path)
	if who == "root@pam" {
		return g
	}
	if pool := c.poolOf(path); pool != "" {
		g = g.withPool(c.access.grantAt(who, "/pool/"+pool))
	}
	if u, t := c.access.tokenOf(who); t != nil && t.privsep {
		owner := c.permissions(u.id, path)
		g.have &= owner.have
		g.below &= owner.below
	}
	return g
}

// withPool adds the roles of a resource pool. They do not propagate, and
// NoAccess beats them both ways.
func (g grant) withPool(pool grant) grant {
	switch {
	case g.none:
		return g
	case pool.none:
		return grant{any: true, none: true}
	}
	g.have |= pool.have
	return g
}

// poolOf is the resource pool that the container or storage at a path is in.
func (c *Cluster) poolOf(path string) string {
	if id, ok := strings.CutPrefix(path, "/vms/"); ok {
		return c.member[atoi(id)]
	}
	if id, ok := strings.CutPrefix(path, "/storage/"); ok {
		if s := c.storages[id]; s != nil {
			return s.pool
		}
	}
	return ""
}

// may reports whether who has all (or, with anyOf, one) of the privileges.
func (c *Cluster) may(who, path string, want privs, anyOf bool) bool {
	have := c.permissions(who, path).have
	if anyOf {
		return have&want != 0
	}
	return have&want == want
}

// check is may with Proxmox's refusal.
func (c *Cluster) check(who, path string, names ...string) error {
	have := c.permissions(who, path).have
	for _, n := range names {
		if have&privBits[n] == 0 {
			return denied(path + ", " + n)
		}
	}
	return nil
}

// checkAny is check for any one of the privileges.
func (c *Cluster) checkAny(who, path string, names ...string) error {
	have := c.permissions(who, path).have
	for _, n := range names {
		if have&privBits[n] != 0 {
			return nil
		}
	}
	return denied(path + ", " + strings.Join(names, "|"))
}

// checkVM checks a privilege on a container that may not be in its resource
// pool yet: having it on the pool named in the request is enough
// (PVE::RPCEnvironment::check_vm_perm).
func (c *Cluster) checkVM(who string, vmid int, pool, name string) error {
	if pool != "" && c.may(who, "/pool/"+pool, privBits[name], false) {
		return nil
	}
	return c.check(who, vmPath(vmid), name)
}

// aclPaths are the paths at which something is granted, sorted.
func (a *access) aclPaths() []string {
	out := make([]string, 0, len(a.acl))
	for p := range a.acl {
		out = append(out, p)
	}
	sort.Strings(out)
	return out
}

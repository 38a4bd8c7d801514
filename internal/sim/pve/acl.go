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

// rolesAt are the roles of a user or token at a path, without those that come
// from resource pools: role -> propagate. The deepest entry that names the
// holder replaces what stands above it, and an own entry beats one of a group
// (PVE::AccessControl::roles).
func (a *access) rolesAt(who, path string) map[string]bool {
	if who == "root@pam" {
		return map[string]bool{"Administrator": true}
	}
	isToken := strings.Contains(who, "!")
	var groups []string
	if isToken {
		u, t := a.tokenOf(who)
		if t == nil {
			return nil
		}
		if !t.privsep {
			return a.rolesAt(u.id, path)
		}
	} else if u := a.users[who]; u != nil {
		groups = u.groups
	}
	var roles map[string]bool
	for end := 0; ; {
		if e := a.acl[aclPrefix(path, end)]; e != nil {
			final := end >= len(path) || path == "/"
			if r := e.rolesOf(who, isToken, groups, final); r != nil {
				roles = r
			}
		}
		if end >= len(path) || path == "/" {
			break
		}
		next := strings.IndexByte(path[end+1:], '/')
		if next < 0 {
			end = len(path)
		} else {
			end += 1 + next
		}
	}
	if p, no := roles["NoAccess"]; no {
		return map[string]bool{"NoAccess": p}
	}
	return roles
}

func aclPrefix(path string, end int) string {
	if end == 0 {
		return "/"
	}
	return path[:end]
}

// rolesOf are the holder's roles at one entry, nil when there are none.
func (e *aclEntry) rolesOf(who string, isToken bool, groups []string, final bool) map[string]bool {
	pick := func(granted map[string]bool, into map[string]bool) map[string]bool {
		for role, propagate := range granted {
			if final || propagate {
				if into == nil {
					into = map[string]bool{}
				}
				into[role] = propagate
			}
		}
		return into
	}
	if isToken {
		return pick(e.tokens[who], nil)
	}
	if r := pick(e.users[who], nil); r != nil {
		return r
	}
	var r map[string]bool
	for _, g := range groups {
		r = pick(e.groups[g], r)
	}
	return r
}

// grant is what somebody may do at a path: the privileges, and those of them
// that also hold below it.
type grant struct{ have, below privs }

// permissions are the effective privileges of a user or token at a path
// (PVE::RPCEnvironment::permissions): the roles there, those that the resource
// pool of a container or storage gives, and for a privilege separated token
// only what its owner has too.
func (c *Cluster) permissions(who, path string) grant {
	if who == "root@pam" {
		return grant{c.access.roles["Administrator"], c.access.roles["Administrator"]}
	}
	roles := c.access.rolesAt(who, path)
	if pool := c.poolOf(path); pool != "" {
		roles = withPool(roles, c.access.rolesAt(who, "/pool/"+pool))
	}
	var g grant
	for role, propagate := range roles {
		p := c.access.roles[role]
		g.have |= p
		if propagate {
			g.below |= p
		}
	}
	u, t := c.access.tokenOf(who)
	if t != nil && t.privsep {
		owner := c.permissions(u.id, path)
		g.have &= owner.have
		g.below &= owner.below
	}
	return g
}

// withPool adds the roles of a resource pool. They never replace a role that
// is there, do not propagate, and NoAccess beats them both ways.
func withPool(roles, pool map[string]bool) map[string]bool {
	if _, no := roles["NoAccess"]; no || len(pool) == 0 {
		return roles
	}
	if _, no := pool["NoAccess"]; no {
		return map[string]bool{"NoAccess": false}
	}
	out := make(map[string]bool, len(roles)+len(pool))
	for r := range pool {
		out[r] = false
	}
	for r, p := range roles {
		out[r] = p
	}
	return out
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

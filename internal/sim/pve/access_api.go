package pve

import (
	"net/http"
	"regexp"
	"strings"
	"time"
)

// getACL lists what the caller may change or audit.
func getACL(r *call) (any, error) {
	type row struct {
		Path      string `json:"path"`
		Propagate int    `json:"propagate"`
		Role      string `json:"roleid"`
		Type      string `json:"type"`
		ID        string `json:"ugid"`
	}
	out := []row{}
	audit := r.c.may(r.who, "/access", privBits["Sys.Audit"], false)
	for _, path := range r.c.access.aclPaths() {
		if !audit && r.mayModify(path) != nil {
			continue
		}
		e := r.c.access.acl[path]
		for i, m := range []map[string]map[string]bool{e.groups, e.tokens, e.users} {
			kind := [...]string{"group", "token", "user"}[i]
			for _, id := range sortedKeys(m) {
				for _, role := range sortedKeys(m[id]) {
					out = append(out, row{path, bit(m[id][role]), role, kind, id})
				}
			}
		}
	}
	return out, nil
}

// aclPath are the paths that can carry an ACL (PVE::AccessControl::check_path).
var aclPath = regexp.MustCompile(`^/(access(/(groups|realm)(/[^/]+)?)?|mapping(/[a-z]+(/[^/]+)?)?|nodes(/[^/]+)?|` +
	`pool(/[A-Za-z0-9._\-]+){0,3}|sdn(/[a-z]+(/[^/]+){0,3})?|storage(/[^/]+)?|vms(/[1-9]\d{2,})?)?$`)

// putACL grants or revokes. Without Permissions.Modify only privileges that
// the caller has itself can be given on (PVE::API2::ACL).
func putACL(r *call) (any, error) {
	path, propagate := r.str("path"), true
	if r.has("propagate") {
		propagate = r.on("propagate")
	}
	var who []string
	who = append(append(who, splitList(r.str("users"))...), splitList(r.str("tokens"))...)
	for _, g := range splitList(r.str("groups")) {
		who = append(who, "@"+g)
	}
	if len(who) == 0 {
		text := "either 'users', 'groups' or 'tokens' is required."
		return nil, badParams(map[string]string{"users": text, "groups": text, "tokens": text})
	}
	if !r.on("delete") && !aclPath.MatchString(path) {
		return nil, badParam("path", "invalid ACL path '"+path+"'")
	}
	for _, role := range splitList(r.str("roles")) {
		p, ok := r.c.access.roles[role]
		if !ok {
			return nil, die("ACL update failed: role '" + role + "' does not exist")
		}
		if err := r.mayGive(path, role, p, propagate); err != nil {
			return nil, err
		}
		for _, id := range who {
			if err := r.c.access.exists(id); err != nil {
				return nil, err
			}
			if r.on("delete") {
				r.c.access.revoke(path, role, id)
			} else {
				r.c.access.grant(path, role, propagate, id)
			}
		}
	}
	return nil, nil
}

// mayGive is the check on who may change a path's ACL only because of what it
// is about: it gives and takes no more than it has itself.
func (r *call) mayGive(path, role string, p privs, propagate bool) error {
	own := r.c.permissions(r.who, path)
	if own.have&privBits["Permissions.Modify"] != 0 {
		return nil
	}
	verb := "add"
	if r.on("delete") {
		verb = "remove"
	}
	text := "Cannot " + verb + " role '" + role + "'"
	switch {
	case role == "NoAccess":
		return badParam("role", text+" - requires 'Permissions.Modify'")
	case p&^own.have != 0:
		return badParam("role", text+" - requires 'Permissions.Modify' or superset of privileges.")
	case propagate && p&^own.below != 0 && verb == "add":
		return badParam("role", text+" with propagation - requires 'Permissions.Modify' or propagated superset of privileges.")
	}
	return nil
}

func (a *access) exists(id string) error {
	switch {
	case strings.HasPrefix(id, "@"):
		return nil
	case strings.Contains(id, "!"):
		if _, t := a.tokenOf(id); t == nil {
			owner, name, _ := strings.Cut(id, "!")
			return die("ACL update failed: no such token '" + name + "' for user '" + owner + "'")
		}
	case a.users[id] == nil:
		return die("ACL update failed: user '" + id + "' does not exist")
	}
	return nil
}

// getPermissions are the caller's own effective privileges, by path; a 1 means
// that the privilege holds below the path too.
func getPermissions(r *call) (any, error) {
	who := r.who
	if id := r.str("userid"); id != "" && id != who {
		if err := r.c.check(r.who, "/access", "Sys.Audit"); err != nil {
			return nil, err
		}
		who = id
	}
	paths := map[string]bool{}
	if p := r.str("path"); p != "" {
		paths[p] = true
	} else {
		for _, p := range []string{"/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms"} {
			paths[p] = true
		}
		for p := range r.c.access.acl {
			paths[p] = true
		}
		for p := range r.c.pools {
			paths["/pool/"+p] = true
		}
		for id := range r.c.member {
			paths[vmPath(id)] = true
		}
		for _, s := range r.c.storages {
			if s.pool != "" {
				paths["/storage/"+s.ID] = true
			}
		}
	}
	out := map[string]map[string]int{}
	for p := range paths {
		g := r.c.permissions(who, p)
		if g.have == 0 {
			continue
		}
		out[p] = map[string]int{}
		for _, n := range g.have.names() {
			out[p][n] = bit(g.below&privBits[n] != 0)
		}
	}
	return out, nil
}

func (r *call) mayUsers() bool {
	return r.c.may(r.who, "/access/groups", privSet("User.Modify Sys.Audit"), true)
}

func (u *user) view() map[string]any {
	e := map[string]any{"enable": bit(!u.disabled), "expire": u.expire}
	if u.comment != "" {
		e["comment"] = u.comment
	}
	return e
}

func listUsers(r *call) (any, error) {
	out := []map[string]any{}
	for _, id := range sortedKeys(r.c.access.users) {
		if !r.mayUsers() && id != r.who {
			continue
		}
		e := r.c.access.users[id].view()
		_, realm, _ := strings.Cut(id, "@")
		e["userid"], e["realm-type"] = id, realm
		out = append(out, e)
	}
	return out, nil
}

func addUser(r *call) (any, error) {
	id := r.str("userid")
	if r.c.access.users[id] != nil {
		return nil, die("create user failed: user '" + id + "' already exists")
	}
	u := &user{id: id, comment: r.str("comment"), groups: splitList(r.str("groups")), password: r.str("password"), tokens: map[string]*token{}}
	u.disabled = r.has("enable") && !r.on("enable")
	u.expire = int64(r.num("expire"))
	r.c.access.users[id] = u
	return nil, nil
}

// someUser is the user in the path.
func (r *call) someUser() (*user, error) {
	if u := r.c.access.users[r.str("userid")]; u != nil {
		return u, nil
	}
	return nil, die("no such user ('" + r.str("userid") + "')")
}

func getUser(r *call) (any, error) {
	u, err := r.someUser()
	if err != nil {
		return nil, err
	}
	e := u.view()
	e["groups"] = append([]string{}, u.groups...)
	tokens := map[string]any{}
	for id, t := range u.tokens {
		tokens[id] = t.view()
	}
	e["tokens"] = tokens
	return e, nil
}

func (t *token) view() map[string]any {
	e := map[string]any{"privsep": bit(t.privsep), "expire": t.expire}
	if t.comment != "" {
		e["comment"] = t.comment
	}
	return e
}

func listTokens(r *call) (any, error) {
	u, err := r.someUser()
	if err != nil {
		return nil, err
	}
	out := []map[string]any{}
	for _, id := range sortedKeys(u.tokens) {
		e := u.tokens[id].view()
		e["tokenid"] = id
		out = append(out, e)
	}
	return out, nil
}

func getToken(r *call) (any, error) {
	u, err := r.someUser()
	if err != nil {
		return nil, err
	}
	t := u.tokens[r.str("tokenid")]
	if t == nil {
		return nil, die("no such token '" + r.str("tokenid") + "' for user '" + u.id + "'")
	}
	return t.view(), nil
}

func addToken(r *call) (any, error) {
	u, err := r.someUser()
	if err != nil {
		return nil, err
	}
	id := r.str("tokenid")
	if u.tokens[id] != nil {
		return nil, badParam("tokenid", "Token already exists.")
	}
	t := &token{secret: r.c.uuid(), privsep: !r.has("privsep") || r.on("privsep"), comment: r.str("comment"), expire: int64(r.num("expire"))}
	u.tokens[id] = t
	return map[string]any{"full-tokenid": u.id + "!" + id, "value": t.secret, "info": t.view()}, nil
}

func dropToken(r *call) (any, error) {
	u, err := r.someUser()
	if err != nil {
		return nil, err
	}
	full := u.id + "!" + r.str("tokenid")
	delete(u.tokens, r.str("tokenid"))
	for _, e := range r.c.access.acl {
		delete(e.tokens, full)
	}
	return nil, nil
}

func listRoles(r *call) (any, error) {
	out := []map[string]any{}
	for _, id := range sortedKeys(r.c.access.roles) {
		out = append(out, map[string]any{"roleid": id, "privs": strings.Join(r.c.access.roles[id].names(), ","), "special": bit(!r.c.access.own[id])})
	}
	return out, nil
}

func addRole(r *call) (any, error) {
	id := r.str("roleid")
	if _, ok := r.c.access.roles[id]; ok {
		return nil, die("create role failed: role '" + id + "' already exists")
	}
	r.c.access.roles[id], r.c.access.own[id] = privSet(r.str("privs")), true
	return nil, nil
}

func getRole(r *call) (any, error) {
	p, ok := r.c.access.roles[r.str("roleid")]
	if !ok {
		return nil, die("role '" + r.str("roleid") + "' does not exist")
	}
	out := map[string]int{}
	for _, n := range p.names() {
		out[n] = 1
	}
	return out, nil
}

func listRealms(*call) (any, error) {
	return []map[string]any{
		{"realm": "pam", "type": "pam", "comment": "Linux PAM standard authentication"},
		{"realm": "pve", "type": "pve", "comment": "Proxmox VE authentication server"},
	}, nil
}

// login gives a ticket for a password, or for a ticket that is still good.
func login(r *call) (any, error) {
	id := r.str("username")
	if realm := r.str("realm"); realm != "" && !strings.Contains(id, "@") {
		id += "@" + realm
	}
	u := r.c.access.users[id]
	given := r.str("password")
	ok := u != nil && r.c.userValid(u) && u.password != "" && u.password == given
	if who, valid := r.c.verify("PVE", given); valid && who == id {
		ok = true
	}
	if !ok {
		r.sleep(3 * time.Second)
		return nil, &refusal{code: http.StatusUnauthorized, message: "authentication failure"}
	}
	return map[string]any{"username": id, "ticket": r.c.ticket("PVE", id), "CSRFPreventionToken": r.c.csrf(id), "cap": r.c.capabilities(id)}, nil
}

// capabilities is the summary of privileges that the web interface wants.
func (c *Cluster) capabilities(who string) map[string]map[string]int {
	areas := map[string]struct{ path, prefix string }{
		"vms": {"/vms", "VM."}, "storage": {"/storage", "Datastore."}, "access": {"/access", "User.|Group."}, "nodes": {"/nodes", "Sys."},
		"dc": {"/", "Sys.Audit|Sys.Modify|SDN."}, "sdn": {"/sdn", "SDN."}, "mapping": {"/mapping", "Mapping."},
	}
	out := map[string]map[string]int{}
	for area, a := range areas {
		out[area] = map[string]int{}
		for _, n := range c.permissions(who, a.path).have.names() {
			for _, p := range strings.Split(a.prefix, "|") {
				if strings.HasPrefix(n, p) || n == "Permissions.Modify" && area != "dc" {
					out[area][n] = 1
				}
			}
		}
	}
	return out
}

func setPassword(r *call) (any, error) {
	u, err := r.someUser()
	if err != nil {
		return nil, err
	}
	u.password = r.str("password")
	return nil, nil
}

package pve

import (
	"fmt"
	"strings"
)

// permission is a method's check as the API schema states it.
type permission struct {
	op      string // and or perm perm-modify userid-param userid-group
	sub     []*permission
	path    string
	names   []string
	anyOf   bool
	require string // a parameter without which the check fails
	word    string
}

func parsePermission(v any) *permission {
	l := v.([]any)
	p := &permission{op: l[0].(string)}
	switch p.op {
	case "and", "or":
		for _, s := range l[1:] {
			p.sub = append(p.sub, parsePermission(s))
		}
	case "perm":
		p.path = l[1].(string)
		p.names = strs(l[2])
		for i := 3; i+1 < len(l); i += 2 {
			switch l[i].(string) {
			case "any":
				p.anyOf = true
			case "require_param", "require-param":
				p.require = l[i+1].(string)
			}
		}
	case "perm-modify":
		p.path = l[1].(string)
	case "userid-param":
		p.word = l[1].(string)
	case "userid-group":
		p.names = strs(l[1])
	default:
		panic(fmt.Sprintf("pve: permission check %q", p.op))
	}
	return p
}

func strs(v any) []string {
	var out []string
	for _, s := range v.([]any) {
		out = append(out, s.(string))
	}
	return out
}

// permit runs a method's permission check. Alternatives are tried without
// saying what each lacked, so their refusal is bare
// (PVE::RPCEnvironment::exec_api2_perm_check).
func (r *call) permit(p *permission) error {
	switch p.op {
	case "and":
		for _, s := range p.sub {
			if err := r.permit(s); err != nil {
				return err
			}
		}
		return nil
	case "or":
		for _, s := range p.sub {
			if r.permit(s) == nil {
				return nil
			}
		}
		return denied("")
	case "perm":
		if p.require != "" && !r.has(p.require) {
			return denied("")
		}
		path, err := r.fill(p.path)
		if err != nil {
			return err
		}
		if p.anyOf {
			return r.c.checkAny(r.who, path, p.names...)
		}
		return r.c.check(r.who, path, p.names...)
	case "perm-modify":
		path, err := r.fill(p.path)
		if err != nil {
			return err
		}
		return r.mayModify(path)
	}
	return r.permitUser(p)
}

// fill puts the request's parameters into a path of the schema.
func (r *call) fill(path string) (string, error) {
	for {
		i := strings.IndexByte(path, '{')
		if i < 0 {
			return path, nil
		}
		j := strings.IndexByte(path, '}')
		name := path[i+1 : j]
		v, ok := r.params[name]
		if !ok {
			return "", badParam(name, "property is missing and it is not optional")
		}
		path = path[:i] + v + path[j+1:]
	}
}

// mayModify is the check on changing the ACL of a path
// (PVE::RPCEnvironment::check_perm_modify): Permissions.Modify, or the
// Allocate privilege of what the path is about.
func (r *call) mayModify(path string) error {
	need := []string{"Permissions.Modify"}
	switch {
	case strings.HasPrefix(path, "/storage"):
		need = append(need, "Datastore.Allocate")
	case strings.HasPrefix(path, "/vms"):
		need = append(need, "VM.Allocate")
	case strings.HasPrefix(path, "/pool"):
		need = append(need, "Pool.Allocate")
	}
	return r.c.checkAny(r.who, path, need...)
}

// permitUser checks who may deal with a user of the access control.
func (r *call) permitUser(p *permission) error {
	id := r.params["userid"]
	switch {
	case p.op == "userid-param" && p.word == "self":
		if id == r.who {
			return nil
		}
		return denied("")
	case p.op == "userid-param":
		_, realm, _ := strings.Cut(id, "@")
		return r.c.check(r.who, "/access/realm/"+realm, p.word)
	}
	return r.c.checkAny(r.who, "/access/groups", p.names...)
}

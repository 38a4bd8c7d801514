package pve

import "strconv"

// pool is a resource pool.
type pool struct {
	id, comment string
}

// members are the containers and storages of a pool: all of them, whatever the
// caller may see of them elsewhere.
func (r *call) members(id string) []any {
	out := []any{}
	for _, t := range r.c.sorted() {
		if r.c.member[t.vmid] == id && r.str("type") != "storage" && r.str("type") != "qemu" {
			e := r.c.resourceRow(t, "")
			e.Lock = ""
			out = append(out, e)
		}
	}
	if t := r.str("type"); t == "lxc" || t == "qemu" {
		return out
	}
	for _, s := range r.c.sortedStores() {
		if s.pool == id {
			out = append(out, r.c.storageResource(r.c.names[0], s))
		}
	}
	return out
}

// listPools lists the pools that the caller may audit; a pool asked for by
// name is shown without that check.
func listPools(r *call) (any, error) {
	if id := r.str("poolid"); id != "" {
		p := r.c.pools[id]
		if p == nil {
			return nil, die("pool '" + id + "' does not exist")
		}
		e := p.view()
		e["members"] = r.members(id)
		return []any{e}, nil
	}
	out := []any{}
	for _, id := range sortedKeys(r.c.pools) {
		if r.c.may(r.who, "/pool/"+id, privBits["Pool.Audit"], false) {
			out = append(out, r.c.pools[id].view())
		}
	}
	return out, nil
}

func (p *pool) view() map[string]any {
	e := map[string]any{"poolid": p.id}
	if p.comment != "" {
		e["comment"] = p.comment
	}
	return e
}

func getPool(r *call) (any, error) {
	p := r.c.pools[r.str("poolid")]
	if p == nil {
		return nil, die("pool '" + r.str("poolid") + "' does not exist")
	}
	e := p.view()
	e["members"] = r.members(p.id)
	return e, nil
}

func addPool(r *call) (any, error) {
	id := r.str("poolid")
	if r.c.pools[id] != nil {
		return nil, die("create pool failed: pool '" + id + "' already exists")
	}
	r.c.pools[id] = &pool{id: id, comment: r.str("comment")}
	return nil, nil
}

// putPool changes a pool and its members; a container is in one pool at most.
func putPool(r *call) (any, error) {
	p := r.c.pools[r.str("poolid")]
	if p == nil {
		return nil, die("update pools failed: pool '" + r.str("poolid") + "' does not exist")
	}
	if err := r.acquire(userLock); err != nil {
		return nil, err
	}
	defer r.c.unlock(userLock)
	if r.has("comment") {
		p.comment = r.str("comment")
	}
	for _, v := range splitList(r.str("vms")) {
		if err := r.poolVM(p.id, atoi(v)); err != nil {
			return nil, err
		}
	}
	for _, id := range splitList(r.str("storage")) {
		s := r.c.storages[id]
		if s == nil {
			return nil, die("update pools failed: storage '" + id + "' does not exist")
		}
		if err := r.mayModify("/storage/" + id); err != nil {
			return nil, err
		}
		s.pool = p.id
		if r.on("delete") {
			s.pool = ""
		}
	}
	return nil, nil
}

func (r *call) poolVM(pool string, vmid int) error {
	if err := r.mayModify(vmPath(vmid)); err != nil {
		return err
	}
	n := strconv.Itoa(vmid)
	switch was := r.c.member[vmid]; {
	case r.on("delete") && was != pool:
		return die("update pools failed: VM " + n + " is not a pool member")
	case r.on("delete"):
		delete(r.c.member, vmid)
		return nil
	case was == pool:
		return die("update pools failed: VM " + n + " is already a pool member")
	case was != "" && !r.on("allow-move"):
		return die("update pools failed: VM " + n + " belongs already to pool '" + was + "' and 'allow-move' is not set")
	}
	r.c.member[vmid] = pool
	return nil
}

func dropPool(r *call) (any, error) {
	id := r.str("poolid")
	if r.c.pools[id] == nil {
		return nil, die("delete pool failed: pool '" + id + "' does not exist")
	}
	for _, t := range r.c.sorted() {
		if r.c.member[t.vmid] == id {
			return nil, die("delete pool failed: pool '" + id + "' is not empty (contains VM " + strconv.Itoa(t.vmid) + ")")
		}
	}
	delete(r.c.pools, id)
	delete(r.c.access.acl, "/pool/"+id)
	return nil, nil
}

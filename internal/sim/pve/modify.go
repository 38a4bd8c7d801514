package pve

import (
	"strings"
)

// changes is what a create or a PUT config wants, for the permission check.
type changes struct {
	who    string
	vmid   int
	pool   string // of a create: rights on it count too
	old    map[string]string
	set    map[string]string
	del    []string
	unpriv bool
}

// mayChange is check_ct_modify_config_perm: who may set what. Everything is
// open to root@pam only, which a token of root@pam is not.
func (c *Cluster) mayChange(ch changes) error {
	if ch.who == "root@pam" {
		return nil
	}
	for _, k := range ch.del {
		if err := c.mayChangeOption(ch, k, "", true); err != nil {
			return err
		}
	}
	for _, k := range sortedKeys(ch.set) {
		if err := c.mayChangeOption(ch, k, ch.set[k], false); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) mayChangeOption(ch changes, k, v string, del bool) error {
	switch {
	case k == "cores" || k == "cpuunits" || k == "cpulimit":
		return c.checkVM(ch.who, ch.vmid, ch.pool, "VM.Config.CPU")
	case k == "memory" || k == "swap":
		return c.checkVM(ch.who, ch.vmid, ch.pool, "VM.Config.Memory")
	case k == "rootfs" || isMountPoint(k):
		return c.mayMount(ch, v, del)
	case isNet(k):
		return c.mayNet(ch, k, v)
	case k == "hostname" || k == "nameserver" || k == "searchdomain":
		return c.checkVM(ch.who, ch.vmid, ch.pool, "VM.Config.Network")
	case devRE.MatchString(k):
		return denied("configuring device passthrough is only allowed for root@pam")
	case k == "features":
		return c.mayFeatures(ch, v)
	case k == "hookscript":
		return denied("changing the hookscript is only allowed for root@pam")
	case k == "tags":
		return c.mayTag(ch, v)
	}
	return c.checkVM(ch.who, ch.vmid, ch.pool, "VM.Config.Options")
}

func (c *Cluster) mayMount(ch changes, v string, del bool) error {
	if err := c.checkVM(ch.who, ch.vmid, ch.pool, "VM.Config.Disk"); err != nil || del {
		return err
	}
	volid := parseMount(v)["volume"]
	if t := mountType(volid); t != "volume" {
		return denied("mount point type " + t + " is only allowed for root@pam")
	}
	if m := newDiskRE.FindStringSubmatch(volid); m != nil {
		return c.check(ch.who, "/storage/"+m[1], "Datastore.AllocateSpace")
	}
	return c.mayUseVolume(ch.who, ch.vmid, volid, "rootdir")
}

// mayNet needs SDN.Use on the old and on the new bridge.
func (c *Cluster) mayNet(ch changes, k, v string) error {
	if err := c.checkVM(ch.who, ch.vmid, ch.pool, "VM.Config.Network"); err != nil {
		return err
	}
	for _, s := range []string{ch.old[k], v} {
		if s == "" {
			continue
		}
		net, _ := parseProps(c.schema.formats["net"], k, s)
		if err := c.checkBridge(ch.who, net); err != nil {
			return err
		}
	}
	return nil
}

// mayFeatures lets everybody with VM.Allocate switch nesting of an
// unprivileged container; any other change of features is root@pam's.
func (c *Cluster) mayFeatures(ch changes, v string) error {
	if !ch.unpriv {
		return denied("changing feature flags for privileged container is only allowed for root@pam")
	}
	was, is := parseMount(ch.old["features"]), parseMount(v)
	delete(was, "volume")
	delete(is, "volume")
	nesting := false
	for _, m := range []map[string]string{was, is} {
		for k := range m {
			if was[k] == is[k] {
				continue
			}
			if k != "nesting" {
				return denied("changing feature flags (except nesting) is only allowed for root@pam")
			}
			nesting = true
		}
	}
	if nesting {
		return c.checkVM(ch.who, ch.vmid, ch.pool, "VM.Allocate")
	}
	return nil
}

// mayTag is PVE::GuestHelpers::assert_tag_permissions. It looks at the
// container's own path only, so that a token whose rights come from the
// resource pool cannot tag a container it creates.
func (c *Cluster) mayTag(ch changes, v string) error {
	if err := c.check(ch.who, vmPath(ch.vmid), "VM.Config.Options"); err != nil {
		return err
	}
	if c.may(ch.who, "/", privBits["Sys.Modify"], false) {
		return nil
	}
	rules := c.tagRules(ch.who)
	was, is := splitList(ch.old["tags"]), splitList(v)
	for _, d := range append(missingIn(was, is), missingIn(is, was)...) {
		if rules.registered[d] || !rules.free && !rules.allowed[d] {
			return denied("/, Sys.Modify for modifying tag '" + d + "'")
		}
	}
	return nil
}

// missingIn are the elements of a that b lacks.
func missingIn(a, b []string) []string {
	var out []string
	for _, x := range a {
		found := false
		for _, y := range b {
			found = found || x == y
		}
		if !found {
			out = append(out, x)
		}
	}
	return out
}

// tagRules are the datacenter's rules about tags for one user.
type tagRules struct {
	allowed    map[string]bool
	registered map[string]bool // only who has Sys.Modify on / may touch these
	free       bool            // any other tag is allowed
}

// tagRules is PVE::GuestHelpers::get_allowed_tags.
func (c *Cluster) tagRules(who string) tagRules {
	t := tagRules{allowed: map[string]bool{}, registered: map[string]bool{}}
	for _, tag := range splitList(c.options["registered-tags"]) {
		t.registered[tag] = true
	}
	modify := c.may(who, "/", privBits["Sys.Modify"], false)
	access := parseMount(c.options["user-tag-access"])
	mode := access["user-allow"]
	t.free = mode == "" || mode == "free"
	if mode != "none" || modify {
		for _, tag := range splitList(access["user-allow-list"]) {
			t.allowed[tag] = true
		}
	}
	if t.free || mode == "existing" || modify {
		for _, k := range c.cts {
			if modify || c.may(who, vmPath(k.vmid), privBits["VM.Audit"], false) {
				for _, tag := range splitList(k.conf.opts["tags"]) {
					t.allowed[tag] = true
				}
			}
		}
	}
	for tag := range t.registered {
		if modify {
			t.allowed[tag] = true
		} else {
			delete(t.allowed, tag)
		}
	}
	return t
}

// mayUseVolume is PVE::Storage::check_volume_access.
func (c *Cluster) mayUseVolume(who string, vmid int, volid, content string) error {
	s, name, ok := splitVolume(volid)
	if !ok {
		if who == "root@pam" {
			return nil
		}
		return die("Only root can pass arbitrary filesystem paths. at /usr/share/perl5/PVE/Storage.pm line 651.")
	}
	st := c.storages[s]
	if st == nil {
		return die("storage '" + s + "' does not exist")
	}
	kind, owner := volumeKind(name)
	if kind != content && !(content == "rootdir" && kind == "images") {
		return die("unable to use volume " + volid + " - content type needs to be '" + content + "'")
	}
	path := "/storage/" + s
	switch {
	case c.may(who, path, privBits["Datastore.Allocate"], false):
		return nil
	case kind == "vztmpl" || kind == "iso" || kind == "import":
		return c.checkAny(who, path, "Datastore.AllocateSpace", "Datastore.Audit")
	case owner == vmid || owner == 0:
		return nil
	case kind == "backup":
		if err := c.check(who, path, "Datastore.AllocateSpace"); err != nil {
			return err
		}
		return c.check(who, vmPath(owner), "VM.Backup")
	}
	if err := c.check(who, path, "Datastore.Audit"); err != nil {
		return err
	}
	return c.check(who, vmPath(owner), "VM.Config.Disk")
}

// volumeKind tells a volume's content type and owner from its name.
func volumeKind(name string) (kind string, owner int) {
	dir, file, ok := strings.Cut(name, "/")
	switch {
	case ok && (dir == "vztmpl" || dir == "iso" || dir == "backup" || dir == "snippets" || dir == "import"):
		for _, f := range strings.Split(file, "-") {
			if n := atoi(f); dir == "backup" && n >= 100 {
				return dir, n
			}
		}
		return dir, 0
	case ok:
		name = file
	}
	for _, f := range strings.Split(name, "-") {
		if n := atoi(f); n >= 100 {
			return "images", n
		}
	}
	return "images", 0
}

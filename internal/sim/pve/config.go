package pve

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// getConfig reads the configuration: with the pending changes in it, unless
// current=1 asks for what is in force.
func getConfig(r *call) (any, error) {
	t, err := r.container()
	if err != nil {
		return nil, err
	}
	if r.on("current") && r.has("snapshot") {
		text := "cannot use 'snapshot' parameter with 'current'"
		return nil, badParams(map[string]string{"snapshot": text, "current": text})
	}
	if name := r.str("snapshot"); name != "" {
		s := t.conf.snapshot(name)
		if s == nil {
			return nil, die("snapshot '" + name + "' does not exist")
		}
		return r.visible(t, s.opts), nil
	}
	if r.on("current") {
		return r.visible(t, t.conf.opts), nil
	}
	return r.visible(t, t.conf.next()), nil
}

// visible is a configuration as this caller may see it: env is hidden from
// whoever may not set it.
func (r *call) visible(t *ct, opts map[string]string) map[string]any {
	out := map[string]any{"digest": t.conf.sum()}
	for k, v := range opts {
		if k != "env" || r.seesEnv() {
			out[k] = shown(k, v)
		}
	}
	if len(t.conf.raw) > 0 {
		out["lxc"] = t.conf.raw
	}
	return out
}

func (r *call) seesEnv() bool {
	return r.c.may(r.who, vmPath(r.vmid()), privBits["VM.Config.Options"], false)
}

// getPending lists the configuration with what is pending.
func getPending(r *call) (any, error) {
	t, err := r.container()
	if err != nil {
		return nil, err
	}
	keys := t.conf.copyOpts()
	for k := range t.conf.pending {
		keys[k] = ""
	}
	keys["digest"] = ""
	out := []map[string]any{}
	for _, k := range sortedKeys(keys) {
		if k == "env" && !r.seesEnv() {
			continue
		}
		e := map[string]any{"key": k}
		if v, ok := t.conf.opts[k]; ok {
			e["value"] = shown(k, v)
		} else if k == "digest" {
			e["value"] = t.conf.sum()
		}
		if v, ok := t.conf.pending[k]; ok {
			e["pending"] = shown(k, v)
		}
		if t.conf.gone[k] {
			e["delete"] = 1
		}
		out = append(out, e)
	}
	return out, nil
}

// edit is one PUT config.
type edit struct {
	set         map[string]string
	del, revert []string
	digest      string
}

// putConfig changes options: at once on a stopped container, for many options
// at the next start only on a running one.
func putConfig(r *call) (any, error) {
	r.take("node")
	vmid := r.vmid()
	e := edit{digest: r.take("digest"), set: map[string]string{}}
	any := false
	for k, v := range r.params {
		if k != "vmid" && k != "delete" && k != "revert" {
			e.set[k] = v
		}
		any = any || k != "vmid"
	}
	for k := range r.null {
		e.set[k] = ""
		any = true
	}
	if !any {
		return nil, die("no options specified")
	}
	e.del, e.revert = splitList(r.str("delete")), splitList(r.str("revert"))
	t, err := r.container()
	if err != nil {
		return nil, err
	}
	ch := changes{who: r.who, vmid: vmid, old: t.conf.opts, unpriv: t.conf.opts["unprivileged"] == "1"}
	for _, keys := range [][]string{e.del, e.revert} {
		ch.del = keys
		if err := r.c.mayChange(ch); err != nil {
			return nil, err
		}
	}
	if err := r.checkEdit(e); err != nil {
		return nil, err
	}
	ch.del, ch.set = nil, e.set
	if err := r.c.mayChange(ch); err != nil {
		return nil, err
	}
	return nil, r.locked(func(t *ct) error {
		if err := t.checkLock(); err != nil {
			return err
		}
		if e.digest != "" && e.digest != t.conf.sum() {
			return die("detected modified configuration - file changed by other user? Try again.")
		}
		if err := r.applyEdit(t, e); err != nil {
			return err
		}
		r.c.dirty()
		return nil
	})
}

func (r *call) checkEdit(e edit) error {
	known := func(k string) bool {
		if p := r.m.byName[k]; p != nil {
			return k != "vmid" && k != "node" && k != "delete" && k != "revert" && k != "digest"
		}
		return r.m.indexed(k) != nil
	}
	for _, k := range e.revert {
		if !known(k) {
			return badParam("revert", "unknown option '"+k+"'")
		}
		if _, both := e.set[k]; both {
			return badParam("revert", "you can't use '-"+k+"' and '-revert "+k+"' at the same time")
		}
	}
	for _, k := range e.del {
		if !known(k) {
			return badParam("delete", "unknown option '"+k+"'")
		}
		if _, both := e.set[k]; both {
			return badParam("delete", "you can't use '-"+k+"' and -delete "+k+"' at the same time")
		}
		if slices.Contains(e.revert, k) {
			return badParam("delete", "you can't use '-delete "+k+"' and '-revert "+k+"' at the same time")
		}
	}
	return nil
}

// fast are the options that a running container takes at once, set or deleted.
var fast = map[string]bool{"description": true, "onboot": true, "startup": true, "protection": true, "hostname": true,
	"hookscript": true, "cores": true, "tags": true, "lock": true, "cpulimit": true, "cpuunits": true, "swap": true}

// setsLive tells whether a running container takes a new value at once; the
// rest waits for the next start. A mount point or device is only added, never
// changed.
func setsLive(t *ct, k string) bool {
	if isMountPoint(k) || devRE.MatchString(k) {
		return t.conf.opts[k] == ""
	}
	return fast[k] || k == "memory" || isNet(k)
}

func dropsLive(k string) bool { return fast[k] || isNet(k) || unusedRE.MatchString(k) }

// applyEdit makes the change (PVE::LXC::Config::update_pct_config). What
// fails half way leaves nothing: the file is written at the end.
func (r *call) applyEdit(t *ct, e edit) error {
	del, err := r.deletable(t, e)
	if err != nil {
		return err
	}
	if err := r.settable(t, e); err != nil {
		return err
	}
	for _, k := range e.revert {
		t.conf.revert(k)
	}
	for _, k := range del {
		if t.running && !dropsLive(k) {
			t.conf.deletePending(k)
		} else if err := r.deleteOption(t, k); err != nil {
			return badParam(k, "unable to apply pending change "+k+" : "+err.Error()+"\n")
		}
	}
	for _, k := range sortedKeys(e.set) {
		if t.running && !setsLive(t, k) {
			r.postpone(t, k, e.set[k])
			continue
		}
		v, err := r.stored(t, k, e.set[k])
		if err != nil {
			return badParam(k, "unable to apply pending change "+k+" : "+err.Error()+"\n")
		}
		t.conf.revert(k)
		t.conf.set(k, v)
	}
	return nil
}

// deletable are the options to delete that are there at all.
func (r *call) deletable(t *ct, e edit) ([]string, error) {
	var out []string
	for _, k := range e.del {
		if _, pending := t.conf.pending[k]; t.conf.opts[k] == "" && !pending {
			continue
		}
		switch {
		case k == "memory" || k == "rootfs" || k == "ostype":
			return nil, die("unable to delete required option '" + k + "'")
		case k == "unprivileged":
			return nil, die("unable to delete read-only option: 'unprivileged'")
		case t.protected() && (isMountPoint(k) || unusedRE.MatchString(k)):
			return nil, die(fmt.Sprintf("can't remove CT %d drive '%s' - protection mode enabled", t.vmid, k))
		}
		out = append(out, k)
	}
	return out, nil
}

func (r *call) settable(t *ct, e edit) error {
	for _, k := range sortedKeys(e.set) {
		switch {
		case k == "unprivileged":
			return die("unable to modify read-only option: 'unprivileged'")
		case k != "rootfs" && !isMountPoint(k):
		case t.protected():
			return die(fmt.Sprintf("can't update CT %d drive '%s' - protection mode enabled", t.vmid, k))
		default:
			volid := parseMount(e.set[k])["volume"]
			if mountType(volid) != "volume" {
				continue
			}
			id, _, _ := strings.Cut(volid, ":")
			if s := r.c.storages[id]; s == nil {
				return die("storage '" + id + "' does not exist")
			} else if !s.holds("rootdir") {
				return die("storage '" + id + "' does not allow content type 'rootdir' (Container)")
			}
		}
	}
	return nil
}

// postpone notes a change for the next start, unless it is none.
func (r *call) postpone(t *ct, k, v string) {
	switch k {
	case "nameserver", "searchdomain":
		v = strings.Join(splitList(v), " ")
	}
	if t.conf.opts[k] == v {
		t.conf.revert(k)
		return
	}
	t.conf.setPending(k, v)
}

// deleteOption removes an option; a mount point's volume becomes unused, an
// unused volume is freed.
func (r *call) deleteOption(t *ct, k string) error {
	v := t.conf.opts[k]
	if unusedRE.MatchString(k) {
		s, name, err := r.c.storageOf(v)
		if err != nil {
			return err
		}
		if _, err := s.remove(name); err != nil {
			return err
		}
	}
	t.conf.revert(k)
	t.conf.set(k, "")
	if isMountPoint(k) {
		t.conf.keepUnused(v)
	}
	return nil
}

// keepUnused lists a mount point's volume as unused.
func (f *conf) keepUnused(mount string) {
	volid := parseMount(mount)["volume"]
	if mountType(volid) != "volume" {
		return
	}
	for i := 0; ; i++ {
		if u := fmt.Sprintf("unused%d", i); f.opts[u] == "" {
			f.set(u, volid)
			return
		}
	}
}

// stored is a value as it ends up in the file.
func (r *call) stored(t *ct, k, v string) (string, error) {
	switch {
	case k == "description":
		return description(v), nil
	case k == "tags":
		return tagList(v), nil
	case isNet(k):
		return r.c.printNet(k, v), nil
	case k == "nameserver" || k == "searchdomain":
		return strings.Join(splitList(v), " "), nil
	case isMountPoint(k):
		return r.newMount(t, k, v)
	}
	return v, nil
}

// newMount makes the volume of a mount point given as "storage:size". The same
// for rootfs is taken for the name of a volume, as in Proxmox.
func (r *call) newMount(t *ct, k, v string) (string, error) {
	props := parseMount(v)
	if old := t.conf.opts[k]; old != "" && parseMount(old)["volume"] != props["volume"] {
		defer t.conf.keepUnused(old)
	}
	m := newDiskRE.FindStringSubmatch(props["volume"])
	if m == nil {
		if s, name, err := r.c.storageOf(props["volume"]); err == nil && s.find(name) != nil {
			props["size"] = sizeText(s.find(name).size)
		}
		return printProps(mountProps(k), props), nil
	}
	s := r.c.storages[m[1]]
	if s == nil {
		return "", die("storage '" + m[1] + "' does not exist")
	}
	vol := s.alloc(t.vmid, sizeOf(m[2]+"G"))
	props["volume"], props["size"] = s.ID+":"+vol.name, sizeText(vol.size)
	return printProps(mountProps(k), props), nil
}

// tagList stores tags in lower case, each once, in alphabetical order; none at
// all as a single blank.
func tagList(v string) string {
	seen := map[string]bool{}
	var out []string
	for _, t := range splitList(strings.ToLower(v)) {
		if !seen[t] {
			seen[t] = true
			out = append(out, t)
		}
	}
	if len(out) == 0 {
		return " "
	}
	sort.Strings(out)
	return strings.Join(out, ";")
}

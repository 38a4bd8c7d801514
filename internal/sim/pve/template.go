package pve

import "fmt"

// convert makes a template of a stopped container. The answer is null, not
// the UPID; the worker inherits the config lock (a second request waits for
// it) and the caller finds the task by its type.
func convert(r *call) (any, error) {
	c, name := r.c, configLock(r.vmid())
	if err := r.acquire(name); err != nil {
		return nil, err
	}
	k, err := r.container()
	if err == nil {
		err = c.convertible(k)
	}
	if err != nil {
		c.unlock(name)
		return nil, err
	}
	c.fork(r.node, "vztemplate", r.str("vmid"), r.who, func(t *task) {
		t.held = []string{name}
		if t.blame() {
			return
		}
		t.after(t.timing.Template, func() {
			var renames []rename
			for _, key := range volumeKeys(k.conf.opts) {
				props := parseMount(k.conf.opts[key])
				s, name, err := c.storageOf(props["volume"])
				v := (*volume)(nil)
				if err == nil {
					v = s.find(name)
				}
				if v == nil {
					t.fail("volume '" + props["volume"] + "' does not exist")
					return
				}
				was, from := v.name, s.machineVolume(v)
				s.toBase(v)
				renames = append(renames, rename{from, s.machineVolume(v)})
				if s.Type == "lvmthin" {
					t.say(fmt.Sprintf("  Renamed %q to %q in volume group %q", was, v.name, s.group()),
						"  Logical volume "+s.group()+"/"+v.name+" changed.",
						"  WARNING: Combining activation change with other commands is not advised.")
				}
				props["volume"] = s.ID + ":" + v.name
				k.conf.set(key, printProps(mountProps(key), props))
			}
			t.work(func(m Machine) error { return renameAll(m, renames) }, func() {
				k.conf.set("template", "1")
				c.record("template", k, 0, t.user)
				t.done()
			})
		})
	})
	return nil, nil
}

// rename is a volume that becomes a template's.
type rename struct{ from, to Volume }

func renameAll(m Machine, list []rename) error {
	for _, r := range list {
		if err := m.Rename(r.from, r.to); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) convertible(k *ct) error {
	if err := k.checkLock(); err != nil {
		return err
	}
	if len(k.conf.snaps) > 0 {
		return die("unable to create template, because CT contains snapshots")
	}
	if k.template() {
		return die("you can't convert a template to a template")
	}
	if k.running {
		return die("you can't convert a CT to template if the CT is running")
	}
	for _, key := range volumeKeys(k.conf.opts) {
		volid := parseMount(k.conf.opts[key])["volume"]
		s, name, err := c.storageOf(volid)
		if err != nil {
			return err
		}
		if !s.can("template", name, false) {
			return die("Template feature is not available for '" + volid + "'")
		}
	}
	return nil
}

// feature tells whether every volume of a container can do something.
func feature(r *call) (any, error) {
	k, err := r.container()
	if err != nil {
		return nil, err
	}
	has := 1
	for _, key := range volumeKeys(k.conf.opts) {
		s, name, err := r.c.storageOf(parseMount(k.conf.opts[key])["volume"])
		if err != nil {
			return nil, err
		}
		if !s.can(r.str("feature"), name, r.has("snapname")) {
			has = 0
		}
	}
	return map[string]int{"hasFeature": has}, nil
}

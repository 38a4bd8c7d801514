package pve

import (
	"fmt"
	"net/http"
	"strings"
)

// resize grows a volume in a task. The checks are made before the answer,
// without the config lock, and again by the worker, with it.
func resize(r *call) (any, error) {
	c, vmid := r.c, r.vmid()
	k, err := r.container()
	if err != nil {
		return nil, err
	}
	if _, err := r.prepareResize(k); err != nil {
		return nil, err
	}
	t := c.fork(r.node, "resize", r.str("vmid"), r.who, func(t *task) {
		t.lockedCT(vmid, false, func(k *ct) {
			grow, err := r.prepareResize(k)
			if err != nil {
				t.fail(err.Error())
				return
			}
			if t.blame() {
				return
			}
			t.say(grow.lines(k.running)...)
			t.after(t.timing.Disk, func() {
				grow.vol.size = grow.to
				grow.props["size"] = sizeText(grow.to)
				k.conf.set(grow.key, printProps(mountProps(grow.key), grow.props))
				c.dirty()
				t.done()
			})
		})
	})
	return t.upid, nil
}

// growth is one resize.
type growth struct {
	key   string
	props map[string]string
	st    *store
	vol   *volume
	to    int64
}

func (r *call) prepareResize(k *ct) (*growth, error) {
	if err := k.checkLock(); err != nil {
		return nil, err
	}
	if err := r.c.checkVM(r.who, k.vmid, "", "VM.Config.Options"); err != nil { // for the parameter "disk", which it takes for an option
		return nil, err
	}
	if d := r.str("digest"); d != "" && d != k.conf.sum() {
		return nil, die("detected modified configuration - file changed by other user? Try again.")
	}
	g := &growth{key: r.str("disk")}
	if k.conf.opts[g.key] == "" {
		errs := map[string]string{"volume": "property is missing and it is not optional"}
		if g.key != "rootfs" {
			errs["mp"] = errs["volume"]
		}
		return nil, &refusal{code: http.StatusInternalServerError, message: "format error", params: errs}
	}
	g.props = parseMount(k.conf.opts[g.key])
	st, name, err := r.c.storageOf(g.props["volume"])
	if err != nil {
		return nil, err
	}
	g.st, g.vol = st, st.find(name)
	if g.vol == nil {
		return nil, die("volume '" + g.props["volume"] + "' does not exist")
	}
	if err := r.c.check(r.who, "/storage/"+st.ID, "Datastore.AllocateSpace"); err != nil {
		return nil, err
	}
	size := r.str("size")
	g.to = sizeOf(strings.TrimPrefix(size, "+"))
	if size[0] == '+' {
		g.to += g.vol.size
	}
	if g.to < g.vol.size {
		return nil, die("unable to shrink disk size")
	}
	if g.to == g.vol.size {
		return nil, die("disk is already at specified size")
	}
	return g, nil
}

// lines is what the tools print.
func (g *growth) lines(running bool) []string {
	dev := g.st.Path + "/images/" + g.vol.name
	var out []string
	switch g.st.Type {
	case "zfspool":
		return nil
	case "lvmthin":
		lv := g.st.group() + "/" + g.vol.name
		dev = "/dev/" + lv
		text := func(n int64) string { return fmt.Sprintf("%.2f GiB (%d extents)", float64(n)/(1<<30), n>>22) }
		out = append(out,
			fmt.Sprintf("  Size of logical volume %s changed from %s to %s.", lv, text(g.vol.size), text(g.to)),
			fmt.Sprintf("  Logical volume %s successfully resized.", lv))
	}
	if running {
		return append(out, "resize2fs 1.47.2 (1-Jan-2025)", "Filesystem at "+dev+" is mounted on /tmp; on-line resizing required",
			"old_desc_blocks = 1, new_desc_blocks = 1", fmt.Sprintf("The filesystem on %s is now %d (4k) blocks long.", dev, g.to/4096), "")
	}
	return append(out, "e2fsck 1.47.2 (1-Jan-2025)", "Pass 1: Checking inodes, blocks, and sizes", "Pass 2: Checking directory structure",
		"Pass 3: Checking directory connectivity", "Pass 4: Checking reference counts", "Pass 5: Checking group summary information",
		fmt.Sprintf("%s: 8691/%d files (0.1%% non-contiguous), 89618/%d blocks", dev, g.vol.size/16384, g.vol.size/4096),
		"resize2fs 1.47.2 (1-Jan-2025)",
		fmt.Sprintf("Resizing the filesystem on %s to %d (4k) blocks.", dev, g.to/4096),
		fmt.Sprintf("The filesystem on %s is now %d (4k) blocks long.", dev, g.to/4096), "")
}

func (f *conf) snapshot(name string) *snapshot {
	for _, s := range f.snaps {
		if s.name == name {
			return s
		}
	}
	return nil
}

func listSnapshots(r *call) (any, error) {
	k, err := r.container()
	if err != nil {
		return nil, err
	}
	out := []map[string]any{}
	for _, s := range k.conf.snaps {
		e := map[string]any{"name": s.name, "snaptime": s.at, "description": s.description}
		if s.parent != "" {
			e["parent"] = s.parent
		}
		out = append(out, e)
	}
	now := map[string]any{"name": "current", "description": "You are here!", "digest": k.conf.sum(), "running": 0}
	if k.running {
		now["running"] = 1
	}
	if p := k.conf.opts["parent"]; p != "" {
		now["parent"] = p
	}
	return append(out, now), nil
}

func makeSnapshot(r *call) (any, error) {
	name, text, vmid := r.str("snapname"), r.str("description"), r.vmid()
	if name == "current" || name == "vzdump" {
		return nil, die("unable to use snapshot name '" + name + "' (reserved name)")
	}
	t := r.c.fork(r.node, "vzsnapshot", r.str("vmid"), r.who, func(t *task) {
		t.lockedCT(vmid, false, func(k *ct) {
			if k.conf.snapshot(name) != nil {
				t.fail("snapshot name '" + name + "' already used")
				return
			}
			for _, key := range volumeKeys(k.conf.opts) {
				if s, v, err := r.c.storageOf(parseMount(k.conf.opts[key])["volume"]); err == nil && !s.can("snapshot", v, false) {
					t.fail("snapshot feature is not available")
					return
				}
			}
			if t.blame() {
				return
			}
			s := &snapshot{name: name, description: text, parent: k.conf.opts["parent"], at: r.c.clock.Now().Unix(), opts: k.conf.copyOpts()}
			s.opts["snaptime"] = fmt.Sprint(s.at)
			k.conf.snaps = append(k.conf.snaps, s)
			t.after(t.timing.Disk, func() {
				k.conf.set("parent", name)
				t.done()
			})
		})
	})
	return t.upid, nil
}

func dropSnapshot(r *call) (any, error) {
	name, vmid := r.str("snapname"), r.vmid()
	t := r.c.fork(r.node, "vzdelsnapshot", r.str("vmid"), r.who, func(t *task) {
		t.lockedCT(vmid, false, func(k *ct) {
			s := k.conf.snapshot(name)
			if s == nil {
				t.fail("snapshot '" + name + "' does not exist")
				return
			}
			for i, x := range k.conf.snaps {
				if x == s {
					k.conf.snaps = append(k.conf.snaps[:i:i], k.conf.snaps[i+1:]...)
					break
				}
			}
			if k.conf.opts["parent"] == name {
				k.conf.set("parent", s.parent)
			}
			k.conf.touch()
			t.after(t.timing.Disk, t.done)
		})
	})
	return t.upid, nil
}

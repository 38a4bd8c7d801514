package pve

import (
	"fmt"
	"sort"
	"strings"
)

func (r *call) maySeeStorage(s *store) bool {
	return r.c.may(r.who, "/storage/"+s.ID, privSet("Datastore.Audit Datastore.AllocateSpace"), true)
}

func contentList(content []string) string {
	l := append([]string(nil), content...)
	sort.Strings(l)
	return strings.Join(l, ",")
}

// configView is a storage as storage.cfg has it.
func (c *Cluster) configView(s *store) map[string]any {
	e := map[string]any{"storage": s.ID, "type": s.Type, "content": contentList(s.Content), "digest": fwDigest("storage.cfg")}
	switch s.Type {
	case "lvmthin":
		vg, thin, _ := strings.Cut(s.Pool, "/")
		e["vgname"], e["thinpool"] = vg, thin
	case "zfspool":
		e["pool"] = s.Pool
	default:
		e["path"] = s.Path
	}
	if s.Shared {
		e["shared"] = 1
	}
	if len(s.Nodes) > 0 {
		e["nodes"] = strings.Join(s.Nodes, ",")
	}
	return e
}

func listStorageConfig(r *call) (any, error) {
	out := []map[string]any{}
	for _, s := range r.c.sortedStores() {
		if r.maySeeStorage(s) && (!r.has("type") || r.str("type") == s.Type) {
			out = append(out, r.c.configView(s))
		}
	}
	return out, nil
}

// someStorage is the storage in the path, on this node.
func (r *call) someStorage() (*store, error) {
	s := r.c.storages[r.str("storage")]
	if s == nil {
		return nil, die("storage '" + r.str("storage") + "' does not exist")
	}
	if r.node != nil && !s.on(r.node.name) {
		return nil, die("storage '" + s.ID + "' is not available on node '" + r.node.name + "'")
	}
	return s, nil
}

func storageConfig(r *call) (any, error) {
	s := r.c.storages[r.str("storage")]
	if s == nil {
		return nil, die("storage '" + r.str("storage") + "' does not exist")
	}
	return r.c.configView(s), nil
}

func (s *store) statusView() map[string]any {
	return map[string]any{"type": s.Type, "content": contentList(s.Content), "active": 1, "enabled": 1, "shared": bit(s.Shared),
		"total": s.Size, "used": s.used(), "avail": max(0, s.Size-s.used())}
}

func listStorage(r *call) (any, error) {
	out := []map[string]any{}
	for _, s := range r.c.sortedStores() {
		if !s.on(r.node.name) || !r.maySeeStorage(s) || (r.has("storage") && r.str("storage") != s.ID) {
			continue
		}
		wanted := !r.has("content")
		for _, c := range splitList(r.str("content")) {
			wanted = wanted || s.holds(c)
		}
		if !wanted {
			continue
		}
		e := s.statusView()
		e["storage"], e["used_fraction"] = s.ID, float64(s.used())/float64(s.Size)
		out = append(out, e)
	}
	return out, nil
}

func storageIndex(*call) (any, error) {
	return subdirs("content", "download-url", "file-restore", "identity", "import-metadata", "oci-registry-pull", "prunebackups", "rrd", "rrddata", "status", "upload"), nil
}

func storageStatus(r *call) (any, error) {
	s, err := r.someStorage()
	if err != nil {
		return nil, err
	}
	return s.statusView(), nil
}

// storageContent lists the files and volumes that the caller may use.
func storageContent(r *call) (any, error) {
	s, err := r.someStorage()
	if err != nil {
		return nil, err
	}
	out := []map[string]any{}
	kind := r.str("content")
	for _, f := range s.Files {
		content, _, _ := strings.Cut(f.Name, "/")
		if kind != "" && kind != content || r.has("vmid") {
			continue
		}
		out = append(out, map[string]any{"volid": s.ID + ":" + f.Name, "content": content, "size": f.Size, "ctime": f.CTime, "format": fileFormat(f.Name)})
	}
	for _, name := range s.order {
		v := s.volumes[name]
		if kind != "" && kind != "rootdir" && kind != "images" || r.has("vmid") && r.num("vmid") != v.owner {
			continue
		}
		volid := s.ID + ":" + name
		if r.c.mayUseVolume(r.who, 0, volid, "images") != nil {
			continue
		}
		e := map[string]any{"volid": volid, "content": "rootdir", "size": v.size, "format": v.format, "vmid": v.owner}
		if s.Type != "zfspool" {
			e["ctime"] = r.c.born.Unix()
		}
		if s.Type == "dir" || s.Type == "btrfs" {
			e["used"] = v.size / 8
		}
		if v.base != "" {
			e["parent"] = v.base
		}
		out = append(out, e)
	}
	return out, nil
}

func fileFormat(name string) string {
	for suffix, f := range map[string]string{".tar.zst": "tzst", ".tar.gz": "tgz", ".tar.xz": "txz", ".tar": "tar", ".iso": "iso"} {
		if strings.HasSuffix(name, suffix) {
			return f
		}
	}
	return "raw"
}

// dropContent removes a file or volume in a task.
func dropContent(r *call) (any, error) {
	s, err := r.someStorage()
	if err != nil {
		return nil, err
	}
	volid := r.str("volume")
	if !strings.Contains(volid, ":") {
		volid = s.ID + ":" + volid
	}
	_, name, _ := splitVolume(volid)
	kind, owner := volumeKind(name)
	if kind != "images" {
		if err := r.c.check(r.who, "/storage/"+s.ID, "Datastore.AllocateTemplate"); err != nil {
			return nil, err
		}
	} else if err := r.c.mayUseVolume(r.who, 0, volid, "images"); err != nil {
		return nil, err
	}
	t := r.c.fork(r.node, "imgdel", fmt.Sprintf("%d@%s", owner, s.ID), r.who, func(t *task) {
		if t.blame() {
			return
		}
		if kind != "images" {
			for i := range s.Files {
				if s.Files[i].Name == name {
					s.Files = append(s.Files[:i:i], s.Files[i+1:]...)
					t.done()
					return
				}
			}
			t.fail("volume '" + volid + "' does not exist")
			return
		}
		lines, err := s.remove(name)
		if err != nil {
			t.fail(err.Error())
			return
		}
		t.say(lines...)
		t.done()
	})
	return t.upid, nil
}

// downloadURL fetches a base image in a task; every URL is good.
func downloadURL(r *call) (any, error) {
	s, err := r.someStorage()
	if err != nil {
		return nil, err
	}
	kind, name, url := r.str("content"), r.str("filename"), r.str("url")
	if !s.holds(kind) {
		return nil, badParam("storage", "storage '"+s.ID+"' is not configured for content-type '"+kind+"'")
	}
	t := r.c.fork(r.node, "download", name, r.who, func(t *task) {
		if t.blame() {
			return
		}
		t.say("downloading " + url + " to " + s.Path + "/template/cache/" + name)
		t.after(t.timing.Create/2, func() {
			if s.file(kind+"/"+name) == nil {
				s.Files = append(s.Files, Archive{Name: kind + "/" + name, Size: 64 << 20, CTime: r.c.clock.Now().Unix(), OSType: "debian", Systemd: 257})
			}
			t.say("download of '" + url + "' to '" + s.Path + "/template/cache/" + name + "' finished")
			t.done()
		})
	})
	return t.upid, nil
}

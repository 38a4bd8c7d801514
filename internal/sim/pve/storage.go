package pve

import (
	"fmt"
	"sort"
	"strings"
)

// Storage describes a storage.
type Storage struct {
	ID      string
	Type    string   // zfspool lvmthin btrfs dir
	Content []string // rootdir images vztmpl backup iso snippets; default rootdir,images
	Path    string   // of dir and btrfs
	Pool    string   // zfspool: dataset; lvmthin: "VG/thinpool"
	Size    int64    // bytes; default 100 GiB
	Used    int64    // beside what containers write
	Shared  bool
	Nodes   []string  // where it is; default everywhere
	Files   []Archive // vztmpl, backup, iso and snippets on it
}

// Archive is a file on a storage, "vztmpl/debian-13_amd64.tar.zst".
type Archive struct {
	Name  string
	Size  int64
	CTime int64
	// What a container made from it is like.
	Rootfs  map[string]string
	OSType  string // debian by default
	Systemd int    // 257 by default; 0 < n: warns without nesting from 232 on
	HostKey string // fingerprint of its SSH host keys, for a guest that has a server; random by default
}

// store is a storage with its volumes.
type store struct {
	Storage
	pool    string // resource pool it is a member of
	volumes map[string]*volume
	order   []string
}

// volume is one volume; name is what follows the storage's id.
type volume struct {
	name   string
	owner  int
	size   int64
	base   string // volume it was cloned from, where the storage remembers
	format string

	written int64 // bytes of its own
}

func (s *store) lockName() string {
	if s.Shared {
		return "storage-" + s.ID
	}
	return "/var/lock/pve-manager/pve-storage-" + s.ID
}

func (s *store) holds(content string) bool {
	for _, c := range s.Content {
		if c == content {
			return true
		}
	}
	return false
}

func (s *store) on(node string) bool {
	if len(s.Nodes) == 0 {
		return true
	}
	for _, n := range s.Nodes {
		if n == node {
			return true
		}
	}
	return false
}

// splitVolume takes "thin:vm-101-disk-0" apart.
func splitVolume(volid string) (storage, name string, ok bool) {
	storage, name, ok = strings.Cut(volid, ":")
	if !ok || formats["pve-storage-id"](storage) != "" {
		return "", "", false
	}
	return storage, name, true
}

// volumeName is the name of a container's volume number n of a kind: "vm" or
// "base".
func (s *store) volumeName(kind string, vmid, n int) string {
	switch s.Type {
	case "zfspool":
		return fmt.Sprintf("%s-%d-disk-%d", map[string]string{"vm": "subvol", "base": "basevol"}[kind], vmid, n)
	case "dir", "btrfs":
		return fmt.Sprintf("%d/%s-%d-disk-%d.raw", vmid, kind, vmid, n)
	}
	return fmt.Sprintf("%s-%d-disk-%d", kind, vmid, n)
}

// isBase reports whether a volume name is a template's.
func isBase(name string) bool {
	last := name[strings.LastIndexByte(name, '/')+1:]
	return strings.HasPrefix(last, "base-") || strings.HasPrefix(last, "basevol-")
}

// free finds the next free disk number of a container.
func (s *store) freeNumber(vmid int) int {
	for n := 0; ; n++ {
		if s.find(s.volumeName("vm", vmid, n)) == nil && s.find(s.volumeName("base", vmid, n)) == nil {
			return n
		}
	}
}

// find finds a volume by its name, also behind a base ("basevol-1/subvol-2").
func (s *store) find(name string) *volume {
	if v := s.volumes[name]; v != nil {
		return v
	}
	if s.Type == "zfspool" && !strings.Contains(name, "/") {
		for k, v := range s.volumes {
			if strings.HasSuffix(k, "/"+name) {
				return v
			}
		}
	}
	return nil
}

func (s *store) add(v *volume) {
	if s.volumes[v.name] == nil {
		s.order = append(s.order, v.name)
	}
	s.volumes[v.name] = v
}

func (s *store) drop(name string) {
	delete(s.volumes, name)
	for i, n := range s.order {
		if n == name {
			s.order = append(s.order[:i:i], s.order[i+1:]...)
			return
		}
	}
}

// alloc makes a new volume.
func (s *store) alloc(vmid int, size int64) *volume {
	v := &volume{name: s.volumeName("vm", vmid, s.freeNumber(vmid)), owner: vmid, size: size, format: s.format()}
	s.add(v)
	return v
}

func (s *store) format() string {
	if s.Type == "zfspool" {
		return "subvol"
	}
	return "raw"
}

// link makes a linked clone of a base volume.
func (s *store) link(base *volume, vmid int) *volume {
	name := s.volumeName("vm", vmid, s.freeNumber(vmid))
	v := &volume{owner: vmid, size: base.size, format: base.format}
	if s.Type == "zfspool" {
		name = base.name[strings.LastIndexByte(base.name, '/')+1:] + "/" + name
		v.base = base.name
	}
	v.name = name
	s.add(v)
	return v
}

// toBase turns a volume into a template's.
func (s *store) toBase(v *volume) {
	s.drop(v.name)
	v.name = strings.NewReplacer("/vm-", "/base-", "subvol-", "basevol-").Replace("/" + v.name)[1:]
	s.add(v)
}

// inUse reports whether linked clones need the volume. LVM-thin and btrfs do
// not remember: their clones live on without it.
func (s *store) inUse(name string) bool {
	for _, v := range s.volumes {
		if v.base == name {
			return true
		}
	}
	return false
}

// can tells whether a volume has a feature (volume_has_feature of the storage
// plugins, as far as containers use it).
func (s *store) can(feature, name string, snap bool) bool {
	base := isBase(name)
	switch feature {
	case "template":
		return !base && !snap && s.Type != "lvm"
	case "clone":
		switch s.Type {
		case "lvmthin", "btrfs":
			return base || snap
		case "zfspool":
			return base
		}
		return false // dir: a linked clone would be qcow2, containers need raw
	case "snapshot":
		return !base && s.Type != "dir"
	}
	return feature == "copy"
}

// provisioned is the sum of the volumes' sizes.
func (s *store) provisioned() int64 {
	var n int64
	for _, v := range s.volumes {
		n += v.size
	}
	return n
}

// used is what is taken of the storage: all kinds allocate what is written.
func (s *store) used() int64 {
	n := s.Used
	for _, v := range s.volumes {
		n += v.written
	}
	return n
}

// group is the volume group of an LVM-thin storage.
func (s *store) group() string {
	g, _, _ := strings.Cut(s.Pool, "/")
	return g
}

// made is what the tools print when a volume was made.
func (s *store) made(v *volume) []string {
	switch s.Type {
	case "lvmthin":
		lines := []string{
			fmt.Sprintf("  Logical volume %q created.", v.name),
			fmt.Sprintf("  Logical volume %s/%s changed.", s.group(), v.name),
		}
		if sum := s.provisioned(); sum > s.Size {
			gib := func(n int64) string { return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30)) }
			group := (s.Size + s.Size/9 + 1<<30 - 1) >> 30 // LVM keeps about a tenth for itself
			return []string{
				"  WARNING: You have not turned on protection against thin pools running out of space.",
				"  WARNING: Set activation/thin_pool_autoextend_threshold below 100 to trigger automatic extension of thin pools before they get full.",
				lines[0],
				fmt.Sprintf("  WARNING: Sum of all thin volume sizes (%s) exceeds the size of thin pool %s and the size of whole volume group (<%d.00 GiB).", gib(sum), s.Pool, group),
				lines[1],
			}
		}
		return lines
	}
	return nil
}

// formatted is what making an ext4 file system prints.
func (c *Cluster) formatted(s *store, v *volume) []string {
	if v.format != "raw" {
		return nil
	}
	var lines []string
	if s.Type == "dir" {
		lines = append(lines, fmt.Sprintf("Formatting '%s/images/%s', fmt=raw size=%d preallocation=off", s.Path, v.name, v.size))
	}
	blocks := v.size / 4096
	lines = append(lines,
		fmt.Sprintf("Creating filesystem with %d 4k blocks and %d inodes", blocks, blocks/4),
		"Filesystem UUID: "+c.uuid(),
		"Superblock backups stored on blocks: ")
	var backups []string
	for _, b := range []int64{32768, 98304, 163840, 229376, 294912, 819200, 884736, 1605632, 2654208, 4096000, 7962624} {
		if b < blocks {
			backups = append(backups, fmt.Sprint(b))
		}
	}
	return append(lines, "\t"+strings.Join(backups, ", "))
}

func (c *Cluster) uuid() string {
	b := make([]byte, 16)
	c.rng.Read(b)
	b[6], b[8] = b[6]&15|0x40, b[8]&63|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// remove frees a volume and returns what the tools print.
func (s *store) remove(name string) ([]string, error) {
	v := s.find(name)
	if v == nil {
		if s.Type == "lvmthin" && formats["pve-configid"](name) != "" {
			return nil, die("lvm name '" + name + "' contains illegal characters")
		}
		return nil, nil
	}
	if s.inUse(v.name) {
		return nil, die("base volume '" + v.name + "' is still in use by linked clones")
	}
	s.drop(v.name)
	if s.Type == "lvmthin" {
		return []string{fmt.Sprintf("  Logical volume %q successfully removed.", v.name)}, nil
	}
	return nil, nil
}

// storageOf finds the storage and volume name of a volume id.
func (c *Cluster) storageOf(volid string) (*store, string, error) {
	id, name, ok := splitVolume(volid)
	if !ok {
		return nil, "", die("unable to parse volume ID '" + volid + "'")
	}
	s := c.storages[id]
	if s == nil {
		return nil, "", die("storage '" + id + "' does not exist")
	}
	return s, name, nil
}

// sortedStores are the storages by id.
func (c *Cluster) sortedStores() []*store {
	out := make([]*store, 0, len(c.storages))
	for _, s := range c.storages {
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

func sortBy[T any](s []T, less func(a, b T) bool) {
	sort.Slice(s, func(i, j int) bool { return less(s[i], s[j]) })
}

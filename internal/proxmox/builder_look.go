package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Storage is a storage as one node sees it.
type Storage struct {
	Name    string
	Type    string   // "zfspool", "lvmthin", "dir", ...
	Content []string // "rootdir", "vztmpl", ...
	Active  bool
	Shared  bool
	Free    int64 // bytes
}

// Linked reports whether clones of templates on the storage are linked ones.
func (s Storage) Linked() bool { return !slices.Contains(fullOnly, s.Type) && s.Type != "lvm" }

// Storages lists the storages of a node that the token may see.
func (b *Builder) Storages(ctx context.Context, node string) ([]Storage, error) {
	var list []struct {
		Storage text    `json:"storage"`
		Type    text    `json:"type"`
		Content text    `json:"content"`
		Active  boolean `json:"active"`
		Shared  boolean `json:"shared"`
		Avail   integer `json:"avail"`
	}
	if err := b.c.get(ctx, "/nodes/"+url.PathEscape(node)+"/storage", nil, &list); err != nil {
		return nil, fmt.Errorf("list storages of node %s: %w", node, err)
	}
	var out []Storage
	for _, s := range list {
		out = append(out, Storage{Name: string(s.Storage), Type: string(s.Type), Content: strings.Split(string(s.Content), ","),
			Active: bool(s.Active), Shared: bool(s.Shared), Free: int64(s.Avail)})
	}
	return out, nil
}

// BaseImages lists the base images on a storage by volume id,
// "local:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst".
func (b *Builder) BaseImages(ctx context.Context, node, storage string) ([]string, error) {
	var list []struct {
		Volume text `json:"volid"`
	}
	path := "/nodes/" + url.PathEscape(node) + "/storage/" + url.PathEscape(storage) + "/content"
	if err := b.c.get(ctx, path, url.Values{"content": {"vztmpl"}}, &list); err != nil {
		return nil, fmt.Errorf("list base images on storage %s: %w", storage, err)
	}
	var out []string
	for _, v := range list {
		out = append(out, string(v.Volume))
	}
	return out, nil
}

// Built is a container or template that a build of ours made, finished or not.
type Built struct {
	Node     string
	VMID     fleet.VMID
	Name     string
	Template bool
	Lock     string
	Storage  string
	Size     int // of the root file system, in MiB; 0: not known
	Tags     []string
	Info     TemplateInfo
}

// Ready reports whether it is a finished template that may be used.
func (b Built) Ready() bool { return b.Template && unready(b.Tags, b.Info) == "" }

// Built lists what builds have made on a node, as far as the token may see it.
func (b *Builder) Built(ctx context.Context, node string) ([]Built, error) {
	guests, err := b.c.guestsOf(ctx, node)
	if err != nil {
		return nil, fmt.Errorf("list templates of node %s: %w", node, err)
	}
	var out []Built
	for _, g := range guests {
		s, err := b.c.settings(ctx, node, g.id())
		switch {
		case errors.Is(err, fleet.ErrDenied), errors.Is(err, fleet.ErrNotFound):
			continue // gone by now
		case err != nil:
			return nil, fmt.Errorf("configuration of %d: %w", g.id(), err)
		}
		info, err := ReadTemplate(s.description())
		if err != nil {
			continue // not of a build
		}
		// All of one look: a build that was made ready since the listing would
		// be neither ready nor unfinished, and seen by nobody who asks for either.
		out = append(out, Built{Node: node, VMID: g.id(), Name: string(g.Name), Template: s["template"].bool(), Lock: string(s["lock"]),
			Storage: s.storage(), Size: s.disk(), Tags: splitTags(string(s["tags"])), Info: info})
	}
	return out, nil
}

// Bridge is where a build plugs its container in.
type Bridge struct {
	Name string
	VLAN int // 0: none
}

// Bake is what a build is going to do, as far as privileges go.
type Bake struct {
	Node        string
	Pool        string       // empty: none
	BaseImages  string       // storage of the base image; empty: made from a template
	Download    bool         // the base image is fetched first
	Source      fleet.VMID   // the template to clone; 0: none
	Storages    []string     // of the volumes
	Bridges     []Bridge     // of the network devices
	Privileged  bool         // not in a user namespace
	Privileges  []string     // beyond those of every build, on the containers
	Containers  []fleet.VMID // without a resource pool: the VMIDs
	SmokeClones bool         // clones what it made
	Migrates    bool         // moves clones to other nodes
}

var (
	bakeRole = role{"DayflyBuilder", []string{"VM.Allocate", "VM.Audit", "VM.Clone", "VM.PowerMgmt", "VM.Config.Disk",
		"VM.Config.CPU", "VM.Config.Memory", "VM.Config.Network", "VM.Config.Options", "Pool.Audit"}}
	uploadRole   = role{"DayflyUpload", []string{"Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Audit"}}
	downloadRole = role{"DayflyDownload", []string{"Sys.Audit", "Sys.AccessNetwork"}}
	cloneRole    = role{"DayflyTemplates", []string{"VM.Clone", "VM.Audit"}}
	migrateRole  = role{"DayflyReplicas", []string{"VM.Migrate"}}
	modifyRole   = role{"DayflyPrivileged", []string{"Sys.Modify"}}
)

// Missing looks for the privileges that a build needs and does not have.
func (b *Builder) Missing(ctx context.Context, k Bake) ([]Problem, error) {
	if b.Root() {
		return nil, nil
	}
	var needs []need
	add := func(path string, r role, why string, privs ...string) {
		for _, p := range privs {
			needs = append(needs, need{path, p, r, why, false})
		}
	}
	var places []string
	if k.Pool != "" {
		places = []string{"/pool/" + k.Pool}
	}
	for _, id := range k.Containers {
		places = append(places, fmt.Sprintf("/vms/%d", id))
	}
	for _, place := range places {
		add(place, bakeRole, "to make, start and destroy the container", "VM.Allocate", "VM.Audit", "VM.PowerMgmt", "VM.Config.Options")
		add(place, bakeRole, "for the container's settings", k.Privileges...)
		if k.SmokeClones {
			add(place, bakeRole, "to clone the template for its smoke test or its replicas", "VM.Clone")
		}
		if k.Migrates {
			add(place, migrateRole, "to move replicas to nodes that do not share the storage", "VM.Migrate")
		}
	}
	if k.Source != 0 {
		add(fmt.Sprintf("/vms/%d", k.Source), cloneRole, "to clone the template to start from", "VM.Clone", "VM.Audit")
	}
	for _, s := range k.Storages {
		add("/storage/"+s, storageRole, "for the container's volumes", "Datastore.AllocateSpace")
	}
	if k.BaseImages != "" && k.Download {
		add("/storage/"+k.BaseImages, uploadRole, "to fetch the base image", "Datastore.AllocateTemplate")
		add("/nodes/"+k.Node, downloadRole, "to fetch the base image", "Sys.AccessNetwork")
	} else if k.BaseImages != "" {
		add("/storage/"+k.BaseImages, storageRole, "to read the base image", "Datastore.Audit")
	}
	for _, n := range k.Bridges {
		path := "/sdn/zones/localnetwork/" + n.Name
		if n.VLAN != 0 {
			path = fmt.Sprintf("%s/%d", path, n.VLAN)
		}
		add(path, netRole, "for the container's network", "SDN.Use")
	}
	if k.Privileged {
		add("/", modifyRole, "to make a privileged container", "Sys.Modify")
	}
	problems, err := b.c.missing(ctx, needs)
	if err != nil {
		return nil, fmt.Errorf("check privileges: %w", err)
	}
	return problems, nil
}

// NextVMID is a VMID that is free now. Another may take it before it is used.
func (b *Builder) NextVMID(ctx context.Context) (fleet.VMID, error) {
	var id integer
	if err := b.c.get(ctx, "/cluster/nextid", nil, &id); err != nil {
		return 0, fmt.Errorf("ask for a free VMID: %w", err)
	}
	return fleet.VMID(id), nil
}

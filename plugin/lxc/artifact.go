package lxc

import (
	"fmt"
	"log"
	"slices"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
	registryimage "github.com/hashicorp/packer-plugin-sdk/packer/registry/image"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// Artifact is a finished template.
type Artifact struct {
	Node     string
	VMID     fleet.VMID
	Info     proxmox.TemplateInfo
	Replicas []string // "node/vmid" of the other copies
	data     any      // for post-processors
}

func (b *build) artifact(state multistep.StateBag) *Artifact {
	a := &Artifact{Node: b.conf.Node, VMID: b.vmid, Info: b.info, data: public(state.Get("generated_data"))}
	for _, m := range b.made {
		if m.replica > 0 {
			a.Replicas = append(a.Replicas, fmt.Sprintf("%s/%d", m.node, m.vmid))
		}
	}
	return a
}

// public drops what provisioners may know and an artifact must not hold, as it
// may be written anywhere: the password and the keys of the connection, which
// Packer adds.
func public(data any) any {
	all, _ := data.(map[string]any)
	out := map[string]any{}
	for _, name := range append(slices.Clone(generated), "ID", "PackerRunUUID", "Host", "Port", "User", "ConnType") {
		if v, ok := all[name]; ok {
			out[name] = v
		}
	}
	return out
}

// BuilderId implements packersdk.Artifact.
func (*Artifact) BuilderId() string { return BuilderID }

// Files implements packersdk.Artifact: a template is no file.
func (*Artifact) Files() []string { return nil }

// Id implements packersdk.Artifact. A VMID alone means nothing: it is used
// again.
func (a *Artifact) Id() string { return fmt.Sprintf("%s:%s#%d", a.Node, a.Info.Ref(), a.VMID) }

// String implements packersdk.Artifact.
func (a *Artifact) String() string {
	text := fmt.Sprintf("template %s is %d on node %s", a.Info.Ref(), a.VMID, a.Node)
	if len(a.Replicas) > 0 {
		text += ", with replicas " + strings.Join(a.Replicas, ", ")
	}
	return text
}

// State implements packersdk.Artifact.
func (a *Artifact) State(name string) any {
	switch name {
	case registryimage.ArtifactStateURI:
		return a.image()
	case "generated_data":
		return a.data
	case "template":
		// Texts only: other types do not survive the way to other plugins.
		return map[string]string{
			"node": a.Node, "vmid": fmt.Sprint(a.VMID), "family": a.Info.Family, "version": a.Info.Version,
			"runner": a.Info.Runner, "replicas": strings.Join(a.Replicas, ","),
		}
	}
	return nil
}

// image is what HCP's registry shows.
func (a *Artifact) image() *registryimage.Image {
	labels := map[string]string{}
	for name, value := range map[string]string{
		"family": a.Info.Family, "version": a.Info.Version, "runner": a.Info.Runner, "runner_sha256": a.Info.RunnerSHA256,
		"os": a.Info.OS, "docker": a.Info.Docker, "storage_driver": a.Info.StorageDriver, "storage_type": a.Info.StorageType,
		"commit": a.Info.Commit, "smoke": a.Info.Smoke, "replicas": strings.Join(a.Replicas, ","),
	} {
		if value != "" {
			labels[name] = value
		}
	}
	return &registryimage.Image{ImageID: a.Id(), ProviderName: "proxmox", ProviderRegion: a.Node, SourceImageID: a.Info.Source, Labels: labels}
}

// Destroy implements packersdk.Artifact. It keeps the template: Packer calls
// it when a post-processor fails, and a push that failed is no reason to throw
// away a template that passed its test. dayfly-prune removes templates.
func (a *Artifact) Destroy() error {
	log.Printf("%s is kept", a)
	return nil
}

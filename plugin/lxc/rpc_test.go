package lxc

import (
	"net"
	"reflect"
	"testing"

	registryimage "github.com/hashicorp/packer-plugin-sdk/packer/registry/image"
	"github.com/hashicorp/packer-plugin-sdk/rpc"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/plugin/access"
)

// remote is an artifact as Packer's other processes see it: through the RPC
// layer of the SDK, over a connection.
func remote(t *testing.T, a packersdk.Artifact) packersdk.Artifact {
	t.Helper()
	near, far := net.Pipe()
	server, err := rpc.NewServer(far)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.RegisterArtifact(a); err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { server.Serve(); close(served) }()
	client, err := rpc.NewClient(near)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
		<-served
	})
	return client.Artifact()
}

// texts is a value that has lost its types on the way, as texts.
func texts(t *testing.T, v any) map[string]any {
	t.Helper()
	m := reflect.ValueOf(v)
	if m.Kind() != reflect.Map {
		t.Fatalf("%T came over, want a map", v)
	}
	out := map[string]any{}
	for _, key := range m.MapKeys() {
		value := m.MapIndex(key).Interface()
		if b, is := value.([]byte); is {
			value = string(b)
		}
		out[reflect.ValueOf(key.Interface()).String()] = value
	}
	return out
}

// Packer reads the metadata for HCP's registry in its own process, by the names
// of the fields, and takes them as they come (packer,
// internal/hcp/registry/types.bucket.go).
func TestStateSurvivesTheWayToPacker(t *testing.T) {
	made := &Artifact{Node: "pve", VMID: 9001, Replicas: []string{"pve/9002", "two/9003"}, data: map[string]any{"TemplateVMID": "9001"},
		Info: proxmox.TemplateInfo{Family: "ubuntu-24.04", Version: "2.340.0-1", Source: "local:vztmpl/debian.tar.zst", Runner: "2.340.0",
			RunnerSHA256: "abc", OS: "Ubuntu", Docker: "28.5.1", StorageDriver: "overlay2", StorageType: "zfspool", Commit: "c0ffee", Smoke: "passed: 1 commands"}}
	a := remote(t, made)
	if got, want := a.Id(), "pve:ubuntu-24.04@2.340.0-1#9001"; got != want || a.BuilderId() != BuilderID || a.Files() != nil {
		t.Errorf("it is %s of %s with files %v, want %s of %s without", got, a.BuilderId(), a.Files(), want, BuilderID)
	}
	image := texts(t, a.State(registryimage.ArtifactStateURI))
	labels := texts(t, image["Labels"])
	delete(image, "Labels")
	want := map[string]any{"ImageID": made.Id(), "ProviderName": "proxmox", "ProviderRegion": "pve", "SourceImageID": "local:vztmpl/debian.tar.zst"}
	if !reflect.DeepEqual(image, want) {
		t.Errorf("the image is %v, want %v", image, want)
	}
	want = map[string]any{"family": "ubuntu-24.04", "version": "2.340.0-1", "runner": "2.340.0", "runner_sha256": "abc", "os": "Ubuntu", "docker": "28.5.1",
		"storage_driver": "overlay2", "storage_type": "zfspool", "commit": "c0ffee", "smoke": "passed: 1 commands", "replicas": "pve/9002,two/9003"}
	if !reflect.DeepEqual(labels, want) {
		t.Errorf("the labels are %v, want %v", labels, want)
	}
	if ref, err := access.TemplateOf(a); err != nil || ref != made.Info.Ref() {
		t.Errorf("post-processors take it for %s (%v), want %s", ref, err, made.Info.Ref())
	}
	if got := texts(t, a.State("generated_data")); got["TemplateVMID"] != "9001" {
		t.Errorf("the build's variables are %v", got)
	}
	if err := a.Destroy(); err != nil {
		t.Errorf("the end of its build: %v", err)
	}
}

package lxc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"golang.org/x/crypto/ssh"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
	"github.com/dayfly-ci/dayfly/test/sshd"
)

// container stands for the container's own SSH server. The commands run on
// this machine, so that the provisioner of the test must be harmless, and
// nothing is sealed.
func (w *world) container() *sshd.Server {
	w.Helper()
	s := sshd.New(w, "canary-ssh-password", func(ssh.PublicKey) bool { return true })
	w.hostKey(ssh.FingerprintSHA256(s.HostKey()))
	w.set("communicator", "ssh")
	w.set("ssh_port", s.Port())
	w.set("ssh_timeout", "20s")
	w.set("network_adapters", []map[string]any{{"bridge": pve.LabBridge, "ip": "127.0.0.1/8"}})
	w.set("seal", false)
	return s
}

// hostKey is what the log of the create task says.
func (w *world) hostKey(fingerprint string) {
	_, name, _ := strings.Cut(pve.LabBase, ":")
	w.sim.AddStorage(pve.Storage{ID: "local", Type: "dir", Path: "/var/lib/vz", Content: []string{"vztmpl"},
		Files: []pve.Archive{{Name: name, Size: 130 << 20, HostKey: fingerprint}}})
}

func TestAnotherMachineAtTheAddressIsRefused(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.container()
	w.hostKey("SHA256:" + strings.Repeat("A", 43))
	w.fails("is none of the container's: another machine may have its address")
}

func TestBuildOverSSH(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.container()
	var out bytes.Buffer
	w.hook.run = func(ctx context.Context, comm packersdk.Communicator) error {
		cmd := &packersdk.RemoteCmd{Command: "echo provisioned", Stdout: &out}
		if err := comm.Start(ctx, cmd); err != nil {
			return err
		}
		cmd.Wait()
		return nil
	}
	a := w.mustBuild()
	if out.String() != "provisioned\n" {
		t.Errorf("the provisioner's command printed %q", out.String())
	}
	if c, _ := w.sim.Container(int(a.VMID)); c.Boots != 1 || c.Running {
		t.Errorf("the template was started %d times, runs %v; want it started once and stopped", c.Boots, c.Running)
	}
}

func TestRootOptionsThroughTheNode(t *testing.T) {
	w := newWorld(t, pve.Config{})
	node := w.nodeShell()
	w.set("features", map[string]any{"keyctl": true})
	w.set("devices", []string{"/dev/net/tun"})
	w.set("raw_lxc", []string{"lxc.cap.drop = sys_time"})
	w.mustBuild()
	all := strings.Join(node.Commands(), "\n")
	for _, want := range []string{`'pct' 'set' '100' '--dev0' '/dev/net/tun,mode=0666' '--features' 'keyctl=1,nesting=1'`, `'/etc/pve/lxc/100.conf'`} {
		if !strings.Contains(all, want) {
			t.Errorf("the node was not told %s:\n%s", want, all)
		}
	}
	for _, want := range []string{"features.keyctl: lets programs use the kernel's keyring", "devices[0]: gives the container the node's /dev/net/tun"} {
		if !strings.Contains(w.out.String(), want) {
			t.Errorf("output has no %q:\n%s", want, w.out.String())
		}
	}
}

func TestRootOptionsByTicket(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.sim.SetPassword("root@pam", "canary-password")
	w.set("username", "root@pam")
	w.set("token", nil)
	w.set("password", "canary-password")
	w.set("features", map[string]any{"keyctl": true, "fuse": true})
	w.set("devices", []string{"/dev/net/tun"})
	a := w.mustBuild()
	c, _ := w.sim.Container(int(a.VMID))
	if c.Config["dev0"] != "/dev/net/tun,mode=0666" || !sameFeatures(c.Config["features"], "nesting=1,keyctl=1,fuse=1") {
		t.Errorf("dev0 is %q, features %q", c.Config["dev0"], c.Config["features"])
	}
	if got := w.manifest(int(a.VMID)).Features; !sameFeatures(got, "nesting=1,keyctl=1,fuse=1") {
		t.Errorf("the manifest has features %q", got)
	}
	w.set("password", "wrong-password")
	w.set("template_version", "2")
	w.fails("does not know root@pam or its secret")
}

func TestChecksumOnTheNode(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.nodeShell()
	w.set("ostemplate_checksum", "sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d") // of "image"
	w.mustBuild()
	w.set("template_version", "2")
	w.set("ostemplate_checksum", "sha256:"+strings.Repeat("0", 64))
	w.fails("has the sha256 sum 6105d6cc")
}

func TestBuildThroughTheNode(t *testing.T) {
	w := newWorld(t, pve.Config{})
	node := w.nodeShell()
	w.set("communicator", "pct")
	w.set("seal", false)
	w.set("smoke_test", map[string]any{"commands": []string{"echo smoke", "test 1 = 1"}})
	var status int
	w.hook.run = func(ctx context.Context, comm packersdk.Communicator) error {
		cmd := &packersdk.RemoteCmd{Command: "exit 42"}
		err := comm.Start(ctx, cmd)
		status = cmd.Wait()
		return err
	}
	a := w.mustBuild()
	if status != 42 {
		t.Errorf("exit status %d, want 42", status)
	}
	if got := w.manifest(int(a.VMID)).Smoke; got != "passed: 2 commands" {
		t.Errorf("smoke is %q", got)
	}
	if got := w.manifest(int(a.VMID)).OS; got == "" {
		t.Error("the manifest has no OS")
	}
	if !slices.ContainsFunc(node.Commands(), func(c string) bool { return strings.HasPrefix(c, "'lxc-attach' '-n' '101' '--clear-env' '--'") }) {
		t.Errorf("nothing was run in the smoke clone: %v", node.Commands())
	}
	w.set("template_version", "2")
	w.set("smoke_test", map[string]any{"commands": []string{"echo nope; exit 9"}})
	w.fails("smoke test: \"echo nope; exit 9\": exit status 9\nnope")
	w.left(1)
	w.set("host_ssh", map[string]any{"host": "127.0.0.1", "port": node.Port(), "password": "hunter2secret", "host_key_fingerprint": "SHA256:" + strings.Repeat("A", 43)})
	w.fails("this may be another machine")
}

// systemd may have started everything before DHCP has answered.
func TestProvisionersHaveANetwork(t *testing.T) {
	w := newWorld(t, pve.Config{Timing: pve.Timing{Start: 400 * time.Millisecond}})
	w.nodeShell()
	w.set("communicator", "pct")
	w.set("seal", false)
	w.set("smoke_test", map[string]any{"skip": true})
	begun := time.Time{}
	w.fault = func(r *http.Request) stage.Fault {
		if strings.HasSuffix(r.URL.Path, "/status/start") {
			begun = time.Now()
		}
		return stage.Fault{}
	}
	least := 600 * time.Millisecond // of Start, and half of it until the address is there
	w.hook.run = func(context.Context, packersdk.Communicator) error {
		if took := time.Since(begun); took < least {
			t.Errorf("the provisioners began %s after the start, want the address to be there, %s after it", took, least)
		}
		return nil
	}
	w.mustBuild()
	w.set("template_version", "2")
	w.set("network_adapters", []map[string]any{{"bridge": pve.LabBridge, "ip": "manual"}})
	least = 0
	w.mustBuild()
	w.left(2)
}

func TestFactsOfTheProvisionerGetIntoTheManifest(t *testing.T) {
	b := &build{ui: &packersdk.MockUi{}}
	b.readFacts(&packersdk.MockCommunicator{DownloadData: `{"runner":"2.335.1","runner_sha256":"ab","docker":"28.5","storage_driver":"overlay2","contract":"1"}`})
	want := proxmox.TemplateInfo{Runner: "2.335.1", RunnerSHA256: "ab", Docker: "28.5", StorageDriver: "overlay2", Contract: "1"}
	if b.info != want {
		t.Errorf("manifest is %+v, want %+v", b.info, want)
	}
}

func TestReplicas(t *testing.T) {
	for _, kind := range []string{"zfspool", "dir"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, pve.Config{})
			w.sim.AddStorage(pve.Storage{ID: pve.LabStorage, Type: kind})
			w.set("replicas", 3)
			a := w.mustBuild()
			if got := len(w.templates()); got != 3 || len(a.Replicas) != 2 {
				t.Errorf("%d finished templates, artifact has replicas %v; want 3 and 2", got, a.Replicas)
			}
			w.left(3)
			for i, c := range w.templates() {
				if got := w.manifest(c.VMID).Replica; got != i {
					t.Errorf("container %d is replica %d, want %d", c.VMID, got, i)
				}
			}
			w.set("template_version", "2")
			w.sim.FailNext("vzclone", "WARNINGS: 1") // of the smoke test
			w.sim.FailNext("vzclone", "WARNINGS: 1")
			w.sim.FailNext("vzclone", "clone failed: no space left")
			w.fails("make replica 2 on node pve")
		})
	}
}

func TestReplicasOnNodesThatShareTheStorage(t *testing.T) {
	w := newWorld(t, pve.Config{Nodes: []string{"pve", "two"}})
	w.set("nodes", []string{"pve", "two"})
	w.sim.AddStorage(pve.Storage{ID: pve.LabStorage, Type: "dir", Shared: true})
	w.set("replicas", 2)
	w.mustBuild()
	if got, want := w.places(), "pve pve two two"; got != want {
		t.Errorf("templates are on %s, want %s", got, want)
	}
}

// places are the nodes that have a finished template, by name.
func (w *world) places() string {
	var at []string
	for _, c := range w.templates() {
		at = append(at, c.Node)
	}
	slices.Sort(at)
	return strings.Join(at, " ")
}

func TestForceReplacesOnlyAfterTheNewOnePassed(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.set("replicas", 2)
	old := w.mustBuild()
	w.set("packer_force", true)
	w.sim.FailNext("vzstart", "no")
	w.fails("no")
	if got := w.manifest(int(old.VMID)); got.State != "ready" || got.Build != old.Info.Build {
		t.Errorf("the old template is %+v", got)
	}
	a := w.mustBuild()
	w.left(2)
	if got := w.manifest(int(a.VMID)).Build; got == old.Info.Build {
		t.Error("the template is the old one")
	}
}

func TestForceKeepsWhatHasClonesButUnready(t *testing.T) {
	w := newWorld(t, pve.Config{})
	old := w.mustBuild()
	base := fmt.Sprintf("%s:basevol-%d-disk-0/subvol-900-disk-0,size=4G", pve.LabStorage, old.VMID)
	w.sim.AddContainer(pve.Container{VMID: 900, Storage: pve.LabStorage, Config: map[string]string{"rootfs": base}})
	w.set("packer_force", true)
	w.mustBuild()
	if got := w.manifest(int(old.VMID)).State; got != "replaced" {
		t.Errorf("the old template is %q, want it replaced", got)
	}
	if got := len(w.templates()); got != 1 {
		t.Errorf("%d finished templates, want 1", got)
	}
}

func TestBuildFromATemplate(t *testing.T) {
	w := newWorld(t, pve.Config{})
	first := w.mustBuild()
	w.set("ostemplate", nil)
	w.set("source_template", map[string]any{"family": "debian-13"})
	w.set("rootfs", map[string]any{"size": "6G"})
	w.set("template_family", "tools")
	w.set("memory", 1024)
	a := w.mustBuild()
	c, _ := w.sim.Container(int(a.VMID))
	if c.Config["memory"] != "1024" || !strings.Contains(c.Config["rootfs"], "size=6G") || !strings.HasPrefix(c.Config["rootfs"], "local-zfs:basevol-") {
		t.Errorf("configuration is %v", c.Config)
	}
	if info := w.manifest(int(a.VMID)); info.Source != "debian-13@1.0.0-1" || info.Family != "tools" || info.Build == first.Info.Build {
		t.Errorf("manifest is %+v", info)
	}
	if !strings.Contains(c.Config["tags"], "fam.tools") || strings.Contains(c.Config["tags"], "fam.debian") {
		t.Errorf("tags are %q", c.Config["tags"])
	}
}

// The storage that a full copy goes to is the one to look at.
func TestFullCopyToAnotherStorage(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.mustBuild()
	w.sim.AddStorage(pve.Storage{ID: "other", Type: "lvm"})
	w.sim.SetACL("/storage/other", "DayflyUpload", true, "packer@pve", builderToken)
	w.set("ostemplate", nil)
	w.set("source_template", map[string]any{"family": "debian-13"})
	w.set("rootfs", map[string]any{"storage": "other", "size": "6G"})
	w.fails("rootfs.storage: a linked clone of template debian-13@1.0.0-1 stays on its storage, local-zfs; hint: leave rootfs.storage out, or set full_clone")
	w.set("full_clone", true)
	w.set("template_family", "tools")
	w.fails("storage other is of type lvm, which makes no templates")
	w.sim.AddStorage(pve.Storage{ID: "other", Type: "lvmthin", Size: 5 << 30})
	w.fails("storage other is full: 5120 MiB are free, rootfs.size is 6G")
	w.sim.AddStorage(pve.Storage{ID: "other", Type: "lvmthin", Size: 3 << 30})
	w.set("rootfs", map[string]any{"storage": "other"})
	w.fails("storage other is full: 3072 MiB are free, the root file system of template debian-13@1.0.0-1 has 4096 MiB")
	w.set("rootfs", map[string]any{"storage": "other", "size": "3G"})
	w.fails("rootfs.size: 3G is less than the 4096 MiB of template debian-13@1.0.0-1")
	w.set("rootfs", map[string]any{"storage": "other", "size": "6G"})
	w.sim.AddStorage(pve.Storage{ID: "other", Type: "lvmthin"})
	a := w.mustBuild()
	c, _ := w.sim.Container(int(a.VMID))
	if got := w.manifest(int(a.VMID)).StorageType; got != "lvmthin" || !strings.HasPrefix(c.Config["rootfs"], "other:") {
		t.Errorf("the manifest has storage type %q, the template %s; want lvmthin", got, c.Config["rootfs"])
	}
}

func TestStoppedContainerInsteadOfATemplate(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.set("skip_convert_to_template", true)
	w.mustBuild()
	w.left(1)
	if got := len(w.templates()); got != 0 {
		t.Errorf("%d finished templates, want none", got)
	}
}

func TestReservedTagsAreNoFailure(t *testing.T) {
	w := newWorld(t, pve.Config{})
	req, err := http.NewRequest(http.MethodPut, w.server.URL+"/api2/json/cluster/options", strings.NewReader("user-tag-access=user-allow%3Dnone"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "PVEAPIToken=root@pam!adm="+w.sim.AddToken("root@pam!adm", false))
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("set datacenter options: %v %v", res, err)
	}
	_ = res.Body.Close()
	a := w.mustBuild()
	if got := w.manifest(int(a.VMID)).State; got != "ready" {
		t.Errorf("the manifest says %q", got)
	}
	w.left(1)
}

// TestNothingShowsASecret looks for canaries in everything that a build leaves
// behind: output, log, state and manifest.
func TestNothingShowsASecret(t *testing.T) {
	w := newWorld(t, pve.Config{})
	node := w.nodeShell()
	w.container()
	w.set("ssh_password", "canary-ssh-password")
	var logged bytes.Buffer // as the plugin writes it, before Packer filters it
	before := log.Writer()
	log.SetOutput(&logged)
	defer log.SetOutput(before)
	a := w.mustBuild()
	log.SetOutput(before)
	state, _ := json.Marshal([]any{a.State("generated_data"), a.State("template"), a.Id(), a.String()})
	texts := map[string]string{"output": w.out.String(), "state": string(state), "commands on the node": strings.Join(node.Commands(), "\n"), "log": logged.String()}
	if logged.Len() == 0 {
		t.Error("nothing was logged")
	}
	for _, c := range w.sim.Containers() {
		texts["configuration"] += fmt.Sprint(c.Config)
	}
	for name, text := range texts {
		for _, secret := range []string{w.conf["token"].(string), "canary-ssh-password", "hunter2secret"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows %s", name, secret)
			}
		}
	}
}

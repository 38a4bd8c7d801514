package lxc

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"golang.org/x/crypto/ssh"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/test/nodetools"
	"github.com/dayfly-ci/dayfly/test/sshd"
)

// tools are a node's programs, in a folder: they note what they are told and do
// nothing else, and lxc-attach runs on this machine. The folder keeps the files
// of /etc/pve that the cluster has.
func (w *world) tools(node string) string {
	w.Helper()
	bin := w.TempDir()
	keep, err := nodetools.Write(bin, node)
	if err != nil {
		w.Fatal(err)
	}
	for name, script := range map[string]string{
		"pct":   "#!/bin/sh\nexit 0\n",
		"pvesm": "#!/bin/sh\necho " + bin + "/image\n",
		"grep":  "#!/bin/sh\nexit 0\n", // of the file in /etc/pve: nothing is to be added
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			w.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(bin, "image"), []byte("image"), 0o644); err != nil {
		w.Fatal(err)
	}
	w.sim.PublishTo(keep)
	return bin
}

// nodeShell gives the build a node to reach by SSH.
func (w *world) nodeShell() *sshd.Server {
	w.Helper()
	return w.sshTo(w.tools(w.conf["node"].(string)))
}

// sshTo gives the build a machine with those programs as the node.
func (w *world) sshTo(bin string) *sshd.Server {
	w.Helper()
	s := sshd.New(w, "hunter2secret", nil)
	s.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	w.set("host_ssh", map[string]any{"host": "127.0.0.1", "port": s.Port(), "password": "hunter2secret",
		"host_key_fingerprint": ssh.FingerprintSHA256(s.HostKey())})
	return s
}

// elsewhere gives a world another site's machine instead: of the node's name,
// with a container of the VMID that the build is going to get.
func (w *world) elsewhere(node string) (bin string) {
	w.Helper()
	other := newWorld(w.T, pve.Config{Nodes: []string{node}})
	bin = other.tools(node)
	for _, tool := range []string{"lxc-attach", "pct"} { // which would be told of other people's containers
		if err := os.WriteFile(filepath.Join(bin, tool), []byte("#!/bin/sh\necho \"$0 $*\" >>"+bin+"/touched\n"), 0o755); err != nil {
			w.Fatal(err)
		}
	}
	other.set("template_family", "theirs")
	other.mustBuild()
	return bin
}

// needsRoot is a build that does something on its node in every way there is.
func (w *world) needsRoot() {
	w.set("communicator", "pct")
	w.set("features", map[string]any{"keyctl": true})
	w.set("raw_lxc", []string{"lxc.cap.drop = sys_time"})
	w.set("smoke_test", map[string]any{"commands": []string{"true"}})
	w.hook.run = func(context.Context, packersdk.Communicator) error {
		w.Error("the provisioners were run")
		return nil
	}
}

func TestMachineOfTheNodesNameAtAnotherSiteIsNotTouched(t *testing.T) {
	w := newWorld(t, pve.Config{})
	node := w.sshTo(w.elsewhere("pve"))
	w.needsRoot()
	w.fails("is called pve, but is not the node of that name at " + strings.TrimPrefix(w.server.URL, "http://") +
		", which has just made container 100: what the machine at ")
	if got, want := node.Commands(), []string{"'hostname'", "'cat' '/etc/pve/lxc/100.conf'"}; !slices.Equal(got, want) {
		t.Errorf("it was told %q, want %q", got, want)
	}
}

func TestThisMachineOfTheNodesNameAtAnotherSiteIsNotTouched(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a build is on the node for root only; run the test as root")
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	name := nodeName(host)
	w := newWorld(t, pve.Config{Nodes: []string{name}})
	bin := w.elsewhere(name)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	w.needsRoot()
	w.fails("this machine is called " + name + ", but is not the node of that name at ")
	if got, err := os.ReadFile(bin + "/touched"); err == nil {
		t.Errorf("it was told\n%s", got)
	}
	// On the node itself, the container is the build's.
	bin = w.tools(name)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	w.set("seal", false)
	w.hook.run = nil
	w.mustBuild()
}

func TestMachineOfAnotherNameIsNotAsked(t *testing.T) {
	w := newWorld(t, pve.Config{})
	node := w.sshTo(w.tools("pve2"))
	w.set("ostemplate_checksum", "sha256:"+strings.Repeat("0", 64))
	w.fails(`is called "pve2", not "pve", as node says; hint: correct host_ssh.host, or node`)
	if got, want := node.Commands(), []string{"'hostname'"}; !slices.Equal(got, want) {
		t.Errorf("it was told %q, want %q", got, want)
	}
}

// The clone of the smoke test is looked at as well, before it is entered.
func TestEveryContainerIsProvenBeforeItIsEntered(t *testing.T) {
	w := newWorld(t, pve.Config{})
	node := w.nodeShell()
	w.set("communicator", "pct")
	w.set("seal", false)
	w.set("smoke_test", map[string]any{"commands": []string{"true"}})
	w.mustBuild()
	all := node.Commands()
	for _, id := range []string{"100", "101"} {
		proof := slices.Index(all, "'cat' '/etc/pve/lxc/"+id+".conf'")
		entry := slices.IndexFunc(all, func(c string) bool { return strings.HasPrefix(c, "'lxc-attach' '-n' '"+id+"' ") })
		if proof < 0 || entry < 0 || proof > entry {
			t.Errorf("container %s was proven by command %d and entered by %d, want the proof first", id, proof, entry)
		}
	}
}

func TestUnreachableNodeSaysWhatToLookAt(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.nodeShell().Close()
	w.set("communicator", "pct")
	w.fails("host_ssh: connect to node by ssh root@127.0.0.1:")
	w.fails("hint: look at host_ssh.host and port")
}

func TestDescriptionInAConfigurationFile(t *testing.T) {
	text := "#Ours%3A a %2525 ü%C3%BC\n#dayfly%3A{\"a\"%3A1}\narch: amd64\n[snap]\n#dayfly%3Aother\n"
	if got, want := described(text), "Ours: a %25 üü\ndayfly:{\"a\":1}\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The stand-ins for containers in tests refuse to seal this machine by this.
func TestSealingIsToldFromOtherCommands(t *testing.T) {
	if want := ">/etc/machine-id"; !strings.Contains(sealScript, want) {
		t.Errorf("seal.sh has no %q, by which nodetools and sshd know it", want)
	}
}

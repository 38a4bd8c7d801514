package nodetools

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/dayfly-ci/dayfly/test/sshd"
)

func TestStandInsHaveTheNodesFiles(t *testing.T) {
	dir := t.TempDir()
	keep, err := Write(dir, "pve")
	if err != nil {
		t.Fatal(err)
	}
	keep("nodes/pve/lxc/100.conf", "#ours\n")
	keep("nodes/two/lxc/101.conf", "#another node's\n")
	for argv, want := range map[string]string{
		"hostname": "pve\n", "cat /etc/pve/lxc/100.conf": "#ours\n", "lxc-attach -n 100 --clear-env -- /bin/echo in it": "in it\n",
		"cat /etc/pve/lxc/101.conf": "", "cat /does/not/exist": "",
	} {
		words := strings.Fields(argv)
		if out, _ := exec.Command(filepath.Join(dir, words[0]), words[1:]...).Output(); string(out) != want {
			t.Errorf("%s prints %q, want %q", argv, out, want)
		}
	}
	keep("nodes/pve/lxc/100.conf", "")
	if out, err := exec.Command(filepath.Join(dir, "cat"), "/etc/pve/lxc/100.conf").Output(); err == nil {
		t.Errorf("a file that is gone holds %q", out)
	}
}

// The files that a build empties when it seals a container are this machine's.
func TestStandInsAreNotSealed(t *testing.T) {
	dir := t.TempDir()
	if _, err := Write(dir, "pve"); err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(dir, "mark")
	seal := "key=''\ntouch " + mark + " # and not : >/etc/machine-id"
	out, err := exec.Command(filepath.Join(dir, "lxc-attach"), "-n", "100", "--clear-env", "--", "/bin/sh", "-c", seal).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "this machine is not to be sealed") {
		t.Errorf("lxc-attach: %v: %s", err, out)
	}
	server := sshd.New(t, "", nil)
	client, err := ssh.Dial("tcp", server.Addr, &ssh.ClientConfig{User: "root", HostKeyCallback: ssh.FixedHostKey(server.HostKey())})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := session.CombinedOutput(seal); err == nil || !strings.Contains(string(out), "this machine is not to be sealed") {
		t.Errorf("ssh: %v: %s", err, out)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("it was sealed all the same")
	}
}

package pct

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/test/sshd"
)

// proxy is what the provisioner ansible puts before any communicator: an SSH
// server on loopback that gives each command to it (packer-plugin-sdk,
// adapter). The provisioner itself only starts that and ansible-playbook.
func proxy(t *testing.T, c packersdk.Communicator) *sshd.Server {
	s := sshd.New(t, "", nil)
	s.Exec = func(command string, in io.Reader, out, errs io.Writer) int {
		cmd := &packersdk.RemoteCmd{Command: command, Stdin: in, Stdout: out, Stderr: errs}
		if err := c.Start(context.Background(), cmd); err != nil {
			fmt.Fprintln(errs, err)
			return 255
		}
		return cmd.Wait()
	}
	return s
}

const playbook = `
- hosts: all
  gather_facts: false
  tasks:
    - name: it takes files
      copy:
        src: DIR/data
        dest: DIR/guest/data
        mode: "0640"
    - name: it takes templates
      copy:
        content: "two words, 'quotes' and $dollars\n"
        dest: DIR/guest/words
    - name: it runs commands
      shell: id -u; echo complaint >&2; exit 3
      register: result
      failed_when: result.rc != 3 or result.stdout != "0" or result.stderr != "complaint"
    - name: it reads standard input
      command:
        cmd: wc -c
        stdin: "12345"
      register: count
      failed_when: count.stdout != "6"
    - name: it runs without Python too
      raw: printf raw >DIR/guest/raw
    - name: it gives files back
      fetch:
        src: DIR/guest/data
        dest: DIR/back
        flat: true
    - name: it sees what fails
      command: DIR/guest/is-not-there
      register: absent
      failed_when: absent is not failed
`

// play runs ansible-playbook as the provisioner does.
func play(t *testing.T, s *sshd.Server, dir string) (string, error) {
	t.Helper()
	book := filepath.Join(dir, "play.yml")
	if err := os.WriteFile(book, []byte(strings.ReplaceAll(playbook, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	inventory := filepath.Join(dir, "hosts")
	line := fmt.Sprintf("default ansible_host=127.0.0.1 ansible_port=%d ansible_user=root ansible_python_interpreter=auto_silent\n", s.Port())
	if err := os.WriteFile(inventory, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := filepath.Join(dir, "ansible.cfg") // so that none of the user's is read
	if err := os.WriteFile(settings, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "ansible-playbook", "-i", inventory, book)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8", "ANSIBLE_CONFIG=" + settings, "ANSIBLE_HOST_KEY_CHECKING=False",
		"ANSIBLE_REMOTE_TEMP=" + dir + "/remote", "ANSIBLE_SSH_TRANSFER_METHOD=piped", "ANSIBLE_PIPELINING=True", "ANSIBLE_NOCOLOR=1",
		"ANSIBLE_SSH_ARGS=-F /dev/null -o ControlMaster=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestAnsible(t *testing.T) {
	for _, program := range []string{"ansible-playbook", "ssh"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("the provisioner ansible is tried with the real ansible-playbook and ssh: %v", err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("in a container ansible is root; run the test as root")
	}
	nodes(t, func(t *testing.T, node Shell) {
		if _, local := node.(Local); local {
			return // over SSH there is more in the way, and a play takes a while
		}
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "guest"), 0o755); err != nil {
			t.Fatal(err)
		}
		data := bytes.Repeat([]byte{0, 1, '\n', 255, '\r', '\''}, 50_000)
		if err := os.WriteFile(filepath.Join(dir, "data"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s := proxy(t, New(t.Context(), node, "101"))
		if out, err := play(t, s, dir); err != nil {
			t.Fatalf("ansible-playbook: %v\n%s", err, out)
		}
		for name, want := range map[string]string{"guest/data": string(data), "back": string(data), "guest/raw": "raw",
			"guest/words": "two words, 'quotes' and $dollars\n"} {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
				t.Errorf("%s has %d bytes (%v), want the %d that were sent", name, len(got), err, len(want))
			}
		}
		if info, err := os.Stat(filepath.Join(dir, "guest/data")); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("guest/data: %v, %v; want mode 0640", info, err)
		}
	})
}

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/dayfly-ci/dayfly/test/sshd"
)

const playbook = `
- hosts: all
  gather_facts: false
  tasks:
    - name: it takes files
      copy:
        src: data
        dest: /opt/data
        mode: "0640"
    - name: it takes text
      copy:
        content: "two words, 'quotes' and $dollars\n"
        dest: /opt/words
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
      raw: printf raw >/opt/raw
    - name: it gives files back
      fetch:
        src: /opt/data
        dest: back
        flat: true
    - name: it sees what fails
      command: /opt/is-not-there
      register: absent
      failed_when: absent is not failed
`

// ansibleBuild has settings of the provisioner put into it. The user's own
// settings, of Ansible and of ssh, are left out, as are those that a test on
// loopback would leave in them.
const ansibleBuild = `
packer {
  required_plugins {
    ansible = {
      version = ">= 1.1.0"
      source  = "github.com/hashicorp/ansible"
    }
  }
}
build {
  sources = ["source.dayfly-lxc.one"]
  provisioner "ansible" {
    playbook_file    = "play.yml"
    ansible_env_vars = [
      "ANSIBLE_CONFIG=${path.cwd}/ansible.cfg", "HOME=${path.cwd}", "ANSIBLE_NOCOLOR=1", "ANSIBLE_PIPELINING=True",
      "ANSIBLE_SSH_ARGS=-F /dev/null -o ControlMaster=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
      %s
    ]
    %s
  }
}
`

// enterScript stands for lxc-attach on the node: the container is the root file
// system, whose words to enter come first.
const enterScript = `#!/bin/sh
shift 4
exec %s /usr/bin/env -i "$@"
`

// attached makes the communicator pct of a world: its settings, for a node over
// SSH whose only container is the root file system.
func (g *inside) attached() string {
	g.Helper()
	bin := g.tools()
	if err := os.WriteFile(filepath.Join(bin, "lxc-attach"), fmt.Appendf(nil, enterScript, strings.Join(g.root.Enter(), " ")), 0o755); err != nil {
		g.Fatal(err)
	}
	return "communicator = \"pct\"\n" + g.shell(bin)
}

// shell makes a node over SSH: settings of the source. Its programs are those in
// the folder.
func (w *world) shell(bin string) string {
	w.Helper()
	node := sshd.New(w, nodePassword, nil)
	node.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	return fmt.Sprintf(`
  host_ssh {
    host                 = "127.0.0.1"
    port                 = %d
    password             = %q
    host_key_fingerprint = %q
  }
`, node.Port(), nodePassword, ssh.FingerprintSHA256(node.HostKey()))
}

// play bakes with the playbook.
func (g *inside) play(source, env, settings string) (string, error) {
	g.Helper()
	for name, text := range map[string]string{"play.yml": playbook, "ansible.cfg": ""} {
		if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o600); err != nil {
			g.Fatal(err)
		}
	}
	g.write(g.source("one", source), fmt.Sprintf(ansibleBuild, env, settings))
	return g.run("build", ".")
}

// The real packer, its real plugin for Ansible and the real ansible-playbook.
func TestAnsible(t *testing.T) {
	home := homeOf(t)
	home.InstallAnsible(t)
	ssh := func(*inside) string { return "" }
	for name, test := range map[string]struct {
		communicator  func(*inside) string
		env, settings string
	}{
		"pct":               {(*inside).attached, `"ANSIBLE_SSH_TRANSFER_METHOD=piped"`, ``},
		"ssh":               {ssh, `"ANSIBLE_SSH_TRANSFER_METHOD=piped"`, ``},
		"ssh without proxy": {ssh, `"ANSIBLE_SSH_TRANSFER_METHOD=piped"`, `use_proxy = false`},
	} {
		t.Run(name, func(t *testing.T) {
			g := newInside(t)
			g.home = linked(t, home)
			data := bytes.Repeat([]byte{0, 1, '\n', 255, '\r', '\''}, 50_000)
			if err := os.WriteFile(filepath.Join(g.dir, "data"), data, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := g.play(test.communicator(g), test.env, test.settings)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			g.count(1, 0)
			if got := g.root.Must("cat /opt/words /opt/raw; stat -c ' %a %s' /opt/data"); got != "two words, 'quotes' and $dollars\nraw 640 300000" {
				t.Errorf("the play left %q\n%s", got, out)
			}
			if got, err := os.ReadFile(filepath.Join(g.dir, "back")); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes came back (%v), want the %d that were sent", len(got), err, len(data))
			}
			g.secretFree(out)
		})
	}
}

package lxc

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

func TestEveryErrorNamesItsField(t *testing.T) {
	tests := []struct {
		field string
		value any
		want  string
	}{
		{"proxmox_url", "ftp://x", "proxmox_url: "},
		{"proxmox_url", "http://pve:8006/api2/json", "proxmox_url: proxmox URL \"http://pve:8006\": http would show the token"},
		{"proxmox_url", nil, "proxmox_url: required, also as PROXMOX_URL"},
		{"username", nil, "username: required, also as PROXMOX_USERNAME"},
		{"username", "packer", "username: \"packer\": want"},
		{"username", "packer@pve", "username: \"packer@pve\" names no token"},
		{"username", "packer@pve!", "username: \"packer@pve!\": the token has no name"},
		{"token", nil, "token: required with a username that names a token"},
		{"tls_ca_file", "/does/not/exist", "tls_ca_file: "},
		{"tls_fingerprint", "zz", "tls_fingerprint: fingerprint \"zz\""},
		{"node", nil, "node: required"},
		{"node", "a b", "node: \"a b\""},
		{"pool", "a b", "pool: \"a b\""},
		{"ostemplate", nil, "ostemplate: give this or source_template"},
		{"ostemplate", "local:iso/x", "ostemplate: \"local:iso/x\": want STORAGE:vztmpl/FILE"},
		{"ostemplate_checksum", "md5:1", "ostemplate_checksum: \"md5:1\""},
		{"ostemplate_checksum", "sha256:" + strings.Repeat("a", 64), "ostemplate_checksum: a base image that is on the node"},
		{"ostemplate_url", "https://x/y", "ostemplate_checksum: required with ostemplate_url"},
		{"source_template", map[string]any{"family": "x"}, "ostemplate: give this or source_template, not both"},
		{"vm_id", 7, "vm_id: 7"},
		{"vm_id_range", "9-3", "vm_id_range: \"9-3\""},
		{"vm_name", "under_score", "vm_name: "},
		{"memory", 1, "memory: 1"},
		{"swap", -1, "swap: -1"},
		{"cores", -1, "cores: -1"},
		{"rootfs", map[string]any{"size": "4G"}, "rootfs.storage: required"},
		{"rootfs", map[string]any{"storage": "x1", "size": "4 G"}, "rootfs.size: \"4 G\""},
		{"rootfs", map[string]any{"storage": "x1,ro=1"}, "rootfs.storage: "},
		{"network_adapters", []map[string]any{{"bridge": "vmbr0,tag=1"}}, "network_adapters[0].bridge: "},
		{"network_adapters", []map[string]any{{"bridge": "vmbr0", "vlan_tag": "4095"}}, "network_adapters[0].vlan_tag: "},
		{"network_adapters", []map[string]any{{"bridge": "vmbr0", "ip": "10.0.0.1"}}, "network_adapters[0].ip: "},
		{"network_adapters", []map[string]any{{"bridge": "vmbr0", "ip6": "x"}}, "network_adapters[0].ip6: "},
		{"network_adapters", []map[string]any{{"bridge": "vmbr0", "gateway": "x"}}, "network_adapters[0].gateway: "},
		{"network_adapters", []map[string]any{{"bridge": "vmbr0", "mac_address": "01:00:00:00:00:00"}}, "network_adapters[0].mac_address: "},
		{"network_adapters", []map[string]any{{"bridge": "vmbr0", "mtu": 1}}, "network_adapters[0].mtu: "},
		{"network_adapters", []map[string]any{{"bridge": "vmbr0", "rate": "x"}}, "network_adapters[0].rate: "},
		{"firewall", map[string]any{"policy_in": "deny"}, "firewall.policy_in: \"deny\""},
		{"firewall", map[string]any{"policy_out": "deny"}, "firewall.policy_out: \"deny\""},
		{"firewall", map[string]any{"deny_out": []string{"10.0.0.0/8", "vlan"}}, "firewall.deny_out[1]: \"vlan\" is no network or address"},
		{"firewall", map[string]any{"allow_out": []string{"a,b"}}, "firewall.allow_out[0]: "},
		{"firewall", map[string]any{"security_groups": []string{"a b"}}, "firewall.security_groups[0]: "},
		{"features", map[string]any{"keyctl": true}, "features.keyctl: only root@pam itself may set it, no API token"},
		{"features", map[string]any{"fuse": true}, "features.fuse: only root@pam"},
		{"features", map[string]any{"mount": "a,b"}, "features.mount: \"a,b\""},
		{"devices", []string{"/dev/net/tun"}, "devices[0]: only root@pam"},
		{"devices", []string{"tun"}, "devices[0]: \"tun\""},
		{"raw_lxc", []string{"lxc.cap.drop: x"}, "raw_lxc[0]: the API has no such option, only root on the node"},
		{"raw_lxc", []string{"lxc.a: b\nlxc.c: d"}, "raw_lxc[0]: "},
		{"template_family", nil, "template_family: "},
		{"template_version", "a b", "template_version: \"a b\""},
		{"template_name", "a_b", "template_name: "},
		{"template_description", "two\nlines", "template_description: "},
		{"tags", "a;dayfly-x", "tags: \"dayfly-x\""},
		{"tags", "a:b", "tags: \"a:b\""},
		{"replicas", 101, "replicas: 101"},
		{"task_timeout", "-1s", "task_timeout: -1s: want a time ahead"},
		{"cleanup_timeout", "-1s", "cleanup_timeout: -1s"},
		{"shutdown_timeout", "-1s", "shutdown_timeout: -1s"},
		{"smoke_test", map[string]any{"timeout": "-1s"}, "smoke_test.timeout: -1s"},
		{"leftover_age", "59m", "leftover_age: 59m0s: want at least 1h0m0s"},
		{"leftover_age", "-1s", "leftover_age: -1s"},
		{"nodes", []string{"two"}, "nodes: node \"pve\", where it is built, is missing"},
		{"nodes", []string{"pve", "pve"}, "nodes[1]: \"pve\" is named twice"},
		{"communicator", "winrm", "communicator: \"winrm\": want ssh, pct or none"},
		{"communicator", "pct", "communicator: pct needs a shell on node pve"},
		{"smoke_test", map[string]any{"commands": []string{"true"}}, "smoke_test.commands: need a way into the clone"},
		{"host_ssh", map[string]any{"password": "x", "host_key_fingerprint": "MD5:x"}, "host_ssh.host_key_fingerprint: "},
		{"host_ssh", map[string]any{"password": "x", "known_hosts_file": "/does/not/exist"}, "host_ssh.known_hosts_file: "},
		{"host_ssh", map[string]any{"private_key_file": "/does/not/exist", "host_key_fingerprint": "SHA256:x"}, "host_ssh.private_key_file: "},
		{"unknown_field", 1, "unknown"},
	}
	for _, test := range tests {
		t.Run(test.want, func(t *testing.T) {
			w := newWorld(t, pve.Config{})
			w.set(test.field, test.value)
			got := errorsOf(t, w.conf)
			if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, test.want) }) {
				t.Errorf("errors are %q, want one with %q", got, test.want)
			}
		})
	}
}

// One error does not hide another, of whichever field.
func TestErrorsOfTheWayToTheAPIComeTogether(t *testing.T) {
	w := newWorld(t, pve.Config{})
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.set("proxmox_url", "ftp://x")
	w.set("username", nil)
	w.set("tls_fingerprint", "zz")
	w.set("tls_ca_file", empty)
	w.set("pool", "a b")
	got := errorsOf(t, w.conf)
	for _, want := range []string{"proxmox_url: ", "username: ", "tls_fingerprint: ", "tls_ca_file: proxmox CA: no certificate in PEM form", "pool: "} {
		if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("errors are %q, want one with %q", got, want)
		}
	}
}

func TestGoodConfigurationHasNoErrors(t *testing.T) {
	w := newWorld(t, pve.Config{})
	for _, comm := range []any{"none", "ssh", nil} {
		w.set("communicator", comm)
		if got := errorsOf(t, w.conf); got != nil {
			t.Errorf("communicator %v: %q", comm, got)
		}
	}
}

func TestKeyOfTheBuildIsForRootAlone(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.set("communicator", "ssh")
	w.set("ssh_username", "debian")
	const want = "ssh_username: \"debian\": Proxmox gives the key that is made for the build to root alone"
	if got := errorsOf(t, w.conf); len(got) != 1 || !strings.HasPrefix(got[0], want) {
		t.Errorf("errors are %q, want one with %q", got, want)
	}
	w.set("ssh_password", "a-password")
	if got := errorsOf(t, w.conf); got != nil {
		t.Errorf("with a password of that user: %q", got)
	}
}

func TestDangersAreWarnedOf(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.set("unprivileged", false)
	w.set("features", map[string]any{"nesting": false})
	_, warnings, err := new(Builder).Prepare(w.conf)
	if err != nil || len(warnings) != 3 || !strings.HasPrefix(warnings[2], "ostemplate_checksum ") && !strings.HasPrefix(warnings[0], "ostemplate_checksum ") {
		t.Errorf("warnings are %q (%v), want three, one of them about ostemplate_checksum", warnings, err)
	}
	w.set("unprivileged", nil)
	w.set("features", nil)
	w.set("ostemplate_url", "https://images.example.org/debian.tar.zst")
	w.set("ostemplate_checksum", "sha256:"+strings.Repeat("0", 64))
	if _, warnings, err := new(Builder).Prepare(w.conf); err != nil || len(warnings) != 0 {
		t.Errorf("warnings are %q (%v), want none", warnings, err)
	}
}

func TestSizes(t *testing.T) {
	for size, want := range map[string]string{"16G": "16", "512M": "0.5", "1T": "1024", "8": "8"} {
		if got := gigabytes(size); got != want {
			t.Errorf("%s is %s GiB, want %s", size, got, want)
		}
	}
}

func TestHostNames(t *testing.T) {
	for text, want := range map[string]string{"ubuntu-24.04-2.335.1-1": "ubuntu-24.04-2.335.1-1", "a_b+c": "a-b-c", strings.Repeat("x", 80): strings.Repeat("x", 63)} {
		if got := hostName(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// Package nodetools makes programs that stand for those of a Proxmox node, on a
// machine that is none: what a build asks for on the node's shell.
package nodetools

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// attach stands for lxc-attach: every container is this machine, which must
// not be sealed, whatever a build that is wrong takes it for.
const attach = `#!/bin/sh
case "$*" in *\>/etc/machine-id*) echo 'lxc-attach: this machine is not to be sealed' >&2; exit 1 ;; esac
shift 4
exec /usr/bin/env -i "$@"
`

// cat has the files of /etc/pve in a folder.
const cat = `#!/bin/sh
case $1 in /etc/pve/*) exec /bin/cat '%s'"${1#/etc/pve}" ;; esac
exec /bin/cat "$@"
`

// Write writes the programs of the node of that name into dir, which comes
// first in the PATH of who uses them. What it returns keeps the node's files of
// /etc/pve, see (*pve.Cluster).PublishTo.
func Write(dir, node string) (keep func(name, text string), err error) {
	pve := filepath.Join(dir, "pve")
	for _, d := range []string{"lxc", "firewall"} {
		if err := os.MkdirAll(filepath.Join(pve, d), 0o755); err != nil {
			return nil, err
		}
	}
	for name, script := range map[string]string{
		"hostname": "#!/bin/sh\necho '" + node + "'\n", "cat": fmt.Sprintf(cat, pve), "lxc-attach": attach,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			return nil, err
		}
	}
	return func(name, text string) {
		path := filepath.Join(pve, strings.TrimPrefix(name, "nodes/"+node+"/"))
		if text == "" {
			_ = os.Remove(path)
			return
		}
		// The folder of another node is not there: nobody reads it here.
		_ = os.WriteFile(path, []byte(text), 0o640)
	}, nil
}

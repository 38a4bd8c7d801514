package pve

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"
)

// conf is a container's configuration file.
type conf struct {
	opts    map[string]string
	raw     [][2]string // lxc.* lines, only root on the host can write them
	pending map[string]string
	gone    map[string]bool // options to be deleted at the next start
	snaps   []*snapshot
	digest  string // cached
	facts   *facts // cached
}

// facts are what lists show of a configuration.
type facts struct {
	name, tags               string
	template                 int
	cpus                     float64
	maxmem, maxswap, maxdisk int64
}

// touch forgets what was worked out from the options.
func (f *conf) touch() { f.digest, f.facts = "", nil }

type snapshot struct {
	name, description, parent string
	at                        int64
	opts                      map[string]string
}

func newConf() *conf { return &conf{opts: map[string]string{}} }

// set stores an option; an empty value removes it.
func (f *conf) set(k, v string) {
	f.touch()
	if v == "" {
		delete(f.opts, k)
		return
	}
	f.opts[k] = v
}

func (f *conf) setPending(k, v string) {
	f.touch()
	if f.pending == nil {
		f.pending = map[string]string{}
	}
	f.pending[k] = v
	delete(f.gone, k)
}

func (f *conf) deletePending(k string) {
	f.touch()
	if f.gone == nil {
		f.gone = map[string]bool{}
	}
	f.gone[k] = true
}

func (f *conf) revert(k string) {
	f.touch()
	delete(f.pending, k)
	delete(f.gone, k)
}

// apply makes the pending changes, deletions first, so that an option both
// deleted and set is set (PVE::LXC::Config::vmconfig_apply_pending).
func (f *conf) apply() {
	for k := range f.gone {
		f.set(k, "")
	}
	for k, v := range f.pending {
		f.set(k, v)
	}
	f.pending, f.gone = nil, nil
	f.touch()
}

func (f *conf) copyOpts() map[string]string {
	out := make(map[string]string, len(f.opts))
	for k, v := range f.opts {
		out[k] = v
	}
	return out
}

// current is the configuration with the pending changes in it.
func (f *conf) next() map[string]string {
	out := f.copyOpts()
	for k, v := range f.pending {
		out[k] = v
	}
	for k := range f.gone {
		delete(out, k)
	}
	return out
}

// sum is the digest, the SHA-1 of the file as Proxmox writes it.
func (f *conf) sum() string {
	if f.digest == "" {
		s := sha1.Sum([]byte(f.text()))
		f.digest = hex.EncodeToString(s[:])
	}
	return f.digest
}

// text renders the file (PVE::LXC::Config::write_pct_config).
func (f *conf) text() string {
	var b strings.Builder
	writeSection(&b, f.opts, f.raw)
	if len(f.pending)+len(f.gone) > 0 {
		b.WriteString("\n[pve:pending]\n")
		p := map[string]string{}
		for k, v := range f.pending {
			p[k] = v
		}
		if len(f.gone) > 0 {
			p["delete"] = strings.Join(sortedKeys(f.gone), ",")
		}
		writeSection(&b, p, nil)
	}
	for _, s := range f.snaps {
		fmt.Fprintf(&b, "\n[%s]\n", s.name)
		writeSection(&b, s.opts, nil)
	}
	return b.String()
}

func writeSection(b *strings.Builder, opts map[string]string, raw [][2]string) {
	if d := opts["description"]; d != "" {
		for _, l := range strings.Split(strings.TrimRight(d, "\n"), "\n") {
			b.WriteString("#" + encodeText(l) + "\n")
		}
	}
	for _, k := range sortedKeys(opts) {
		if k != "description" && k != "env" {
			b.WriteString(k + ": " + opts[k] + "\n")
		}
	}
	for _, r := range raw {
		b.WriteString(r[0] + ": " + r[1] + "\n")
	}
	if e := opts["env"]; e != "" {
		for _, kv := range strings.Split(e, "\x00") {
			b.WriteString("lxc.environment.runtime: " + kv + "\n")
		}
	}
}

// encodeText is PVE::Tools::encode_text: control characters, the percent sign,
// the colon and everything that is not ASCII.
func encodeText(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '%' || c == ':' || c > '~' {
			b.WriteString("%" + digits[c>>4:c>>4+1] + digits[c&15:c&15+1])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// description is how a text comes back after it was written as comments: with
// one newline at its end, without the empty lines before that.
func description(s string) string {
	lines := strings.Split(s, "\n")
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// numeric are the options that the API gives as JSON numbers; the others,
// cpulimit too, are strings.
var numeric = map[string]bool{"arch": false, "cores": true, "cpuunits": true, "memory": true, "swap": true,
	"onboot": true, "protection": true, "template": true, "unprivileged": true, "debug": true, "console": true, "tty": true, "snaptime": true}

// shown is an option as the API gives it.
func shown(k, v string) any {
	if numeric[k] {
		return atoi(v)
	}
	return v
}

// volumeKeys are the options that name volumes, in order: rootfs, then the
// mount points by number.
func volumeKeys(opts map[string]string) []string {
	var out []string
	if opts["rootfs"] != "" {
		out = append(out, "rootfs")
	}
	for i := range 256 {
		k := fmt.Sprintf("mp%d", i)
		if opts[k] != "" {
			out = append(out, k)
		} else if i > 16 {
			break // nobody leaves larger holes in a test
		}
	}
	return out
}

// sizeOf reads "4G" as bytes.
func sizeOf(s string) int64 {
	if s == "" {
		return 0
	}
	shift := map[byte]uint{'K': 10, 'M': 20, 'G': 30, 'T': 40}[s[len(s)-1]]
	n := strings.TrimRight(s, "KMGT")
	var f float64
	fmt.Sscanf(n, "%g", &f)
	return int64(f * float64(int64(1)<<shift))
}

// sizeText writes bytes the short way (PVE::JSONSchema::format_size).
func sizeText(n int64) string {
	for _, u := range []string{"", "K", "M", "G"} {
		if n%1024 != 0 || n == 0 {
			return fmt.Sprintf("%d%s", n, u)
		}
		n /= 1024
	}
	return fmt.Sprintf("%dT", n)
}

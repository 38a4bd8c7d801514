//go:build linux

package host

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// conf is what the node's file of a container says.
type conf struct {
	name        string // hostname
	description string
	lock        string
	template    bool
	firewall    []string // interfaces that the firewall is to guard: "veth20001i0"
}

// maxConf is pmxcfs's own bound of a file.
const maxConf = 1 << 20

// readConf reads the file of a container. That it is there says that the
// container is on this node.
func (s *Server) readConf(id fleet.VMID) (conf, error) {
	text, err := readBounded(filepath.Join(s.cfg.PVE, "nodes", s.cfg.Node, "lxc", strconv.Itoa(int(id))+".conf"))
	if os.IsNotExist(err) {
		return conf{}, fmt.Errorf("container %d is not on this node: %w", id, fleet.ErrNotFound)
	}
	if err != nil {
		return conf{}, err
	}
	return parseConf(id, text), nil
}

// parseConf reads the part of the file before its snapshots
// (pve-guest-common, PVE/AbstractConfig.pm; pve-container, PVE/LXC/Config.pm):
// "# " lines are the description, text-encoded, the rest "key: value".
func parseConf(id fleet.VMID, text string) conf {
	var c conf
	var description []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "[") {
			break
		}
		if said, ok := strings.CutPrefix(line, "#"); ok {
			description = append(description, decodeText(said))
			continue
		}
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case key == "hostname":
			c.name = value
		case key == "lock":
			c.lock = value
		case key == "template":
			c.template = value == "1"
		case key == "description": // written by old releases
			description = append(description, decodeText(value))
		case netKey.MatchString(key) && slices.Contains(strings.Split(value, ","), "firewall=1"):
			c.firewall = append(c.firewall, fmt.Sprintf("veth%di%s", id, strings.TrimPrefix(key, "net")))
		}
	}
	c.description = strings.Join(description, "\n")
	return c
}

var netKey = regexp.MustCompile(`^net[0-9]{1,2}$`)

// decodeText undoes PVE::Tools::encode_text: control characters, colons, % and
// what is not ASCII are %XX.
func decodeText(s string) string {
	if text, err := url.PathUnescape(s); err == nil {
		return text
	}
	return s
}

// members lists the containers and machines of a resource pool, as the
// cluster's user.cfg does (pve-access-control, PVE/AccessControl.pm):
// "pool:ID:COMMENT:VMID,VMID,…:STORAGE,…:".
func (s *Server) members() (map[fleet.VMID]bool, error) {
	text, err := readBounded(filepath.Join(s.cfg.PVE, "user.cfg"))
	if err != nil {
		return nil, err
	}
	return parseMembers(text, s.cfg.Pool), nil
}

func parseMembers(text, pool string) map[fleet.VMID]bool {
	ids := map[fleet.VMID]bool{}
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) < 4 || fields[0] != "pool" || strings.TrimSpace(fields[1]) != pool {
			continue
		}
		for _, word := range strings.FieldsFunc(fields[3], func(r rune) bool { return strings.ContainsRune(",; \t\x00", r) }) {
			if id, err := strconv.Atoi(word); err == nil {
				ids[fleet.VMID(id)] = true
			}
		}
	}
	return ids
}

// admit is the rule of every verb: the VMID is in our range and resource pool,
// on this node, no template, and its manifest is signed for that VMID and name.
func (s *Server) admit(id fleet.VMID) (conf, fleet.Manifest, error) {
	c, err := s.claim(id)
	if err != nil {
		return c, fleet.Manifest{}, err
	}
	m, err := fleet.ReadManifest(c.description, s.cfg.Key, id, c.name)
	if err != nil {
		return c, m, fmt.Errorf("container %d: %w: %w", id, err, fleet.ErrDenied)
	}
	return c, m, nil
}

// claim is the part of admit that needs no manifest.
func (s *Server) claim(id fleet.VMID) (conf, error) {
	if id < s.cfg.First || id > s.cfg.Last {
		return conf{}, fmt.Errorf("VMID %d is not in the range %d to %d: %w", id, s.cfg.First, s.cfg.Last, fleet.ErrDenied)
	}
	members, err := s.members()
	if err != nil {
		return conf{}, fmt.Errorf("read resource pools: %w", err)
	}
	c, err := s.readConf(id)
	switch {
	case err != nil:
		return c, err
	case !members[id]:
		return c, fmt.Errorf("container %d is not in resource pool %s: %w", id, s.cfg.Pool, fleet.ErrDenied)
	case c.template:
		return c, fmt.Errorf("%d is a template: %w", id, fleet.ErrDenied)
	}
	return c, nil
}

// readBounded reads a file of the node, at most maxConf of it, in as much memory
// and with as few system calls as it takes: a warm container's config waits for
// some of them, and os.ReadFile makes three times as many.
func readBounded(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for err == unix.EINTR { // FUSE
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 1024)
	for len(text) <= maxConf {
		text = slices.Grow(text, 512)
		n, err := unix.Read(fd, text[len(text):cap(text)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return "", &os.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return string(text), nil
		default:
			text = text[:len(text)+n]
		}
	}
	return "", fmt.Errorf("%s is longer than %d bytes", path, maxConf)
}

package pve

import (
	"regexp"
	"strings"
)

var (
	mountPointRE = regexp.MustCompile(`^mp\d+$`)
	netRE        = regexp.MustCompile(`^net\d+$`)
	devRE        = regexp.MustCompile(`^dev\d+$`)
	unusedRE     = regexp.MustCompile(`^unused\d+$`)
	// newDiskRE is a volume to be made: "storage:size in GiB".
	newDiskRE = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]):(\d+(\.\d+)?)$`)
)

func isMountPoint(key string) bool { return mountPointRE.MatchString(key) }
func isNet(key string) bool        { return netRE.MatchString(key) }

// mountProps are the keys of rootfs or of a mount point, of the newest release:
// what is stored was checked when it came in.
func mountProps(key string) []*param {
	if key == "rootfs" {
		return []*param{{name: "volume", key: true}}
	}
	return []*param{{name: "volume", key: true}, {name: "mp"}}
}

// parseMount reads a mount point without checking it.
func parseMount(v string) map[string]string {
	out := map[string]string{}
	for _, part := range strings.Split(v, ",") {
		k, v, ok := strings.Cut(part, "=")
		if !ok {
			k, v = "volume", part
		}
		out[k] = v
	}
	return out
}

// mountType tells a volume from a bind mount and a device
// (PVE::LXC::Config::classify_mountpoint).
func mountType(volid string) string {
	switch {
	case strings.HasPrefix(volid, "/dev/"):
		return "device"
	case strings.HasPrefix(volid, "/"):
		return "bind"
	}
	return "volume"
}

// checkBridge is the check of SDN.Use on what a network device uses: the
// bridge, or exactly the VLAN on it (PVE::GuestHelpers::check_vnet_access).
func (c *Cluster) checkBridge(who string, net map[string]string) error {
	bridge := net["bridge"]
	if who == "root@pam" || bridge == "" {
		return nil
	}
	base := "/sdn/zones/localnetwork/" + bridge
	if tag := net["tag"]; tag != "" {
		return c.check(who, base+"/"+tag, "SDN.Use")
	}
	if trunks := net["trunks"]; trunks != "" {
		for _, v := range strings.Split(trunks, ";") {
			if err := c.check(who, base+"/"+v, "SDN.Use"); err != nil {
				return err
			}
		}
		return nil
	}
	return c.check(who, base, "SDN.Use")
}

// printNet stores a network device as Proxmox does: with an address of its own
// and its type.
func (c *Cluster) printNet(key, v string) string {
	props := c.schema.formats["net"]
	net, _ := parseProps(props, key, v)
	if net["hwaddr"] == "" {
		net["hwaddr"] = c.newMAC()
	}
	net["hwaddr"] = strings.ToUpper(net["hwaddr"])
	if net["type"] == "" {
		net["type"] = "veth"
	}
	return printProps(props, net)
}

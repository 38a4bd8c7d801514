package pve

import (
	"strings"
)

func versionInfo(r *call) (any, error) {
	parts := strings.SplitN(r.c.release, ".", 3)
	return map[string]string{"version": r.c.release, "release": strings.Join(parts[:min(2, len(parts))], "."), "repoid": "b5a8d1e2c3f40917"}, nil
}

func clusterIndex(*call) (any, error) {
	return index("name", "replication", "metrics", "notifications", "config", "firewall", "backup", "backup-info", "ha", "acme", "ceph",
		"jobs", "mapping", "sdn", "log", "resources", "tasks", "options", "status", "nextid", "bulk-action"), nil
}

func nodeIndex(*call) (any, error) {
	return index("name", "aplinfo", "apt", "capabilities", "ceph", "certificates", "config", "disks", "dns", "firewall", "hardware", "hosts",
		"journal", "lxc", "migrateall", "netstat", "network", "qemu", "query-oci-repo-tags", "query-url-metadata", "replication", "report",
		"rrd", "rrddata", "scan", "sdn", "services", "spiceshell", "startall", "status", "stopall", "storage", "subscription", "suspendall",
		"syslog", "tasks", "termproxy", "time", "version", "vncshell", "vzdump", "wakeonlan"), nil
}

func accessIndex(*call) (any, error) {
	return subdirs("users", "groups", "roles", "acl", "domains", "openid", "tfa", "ticket", "password", "permissions"), nil
}

func listNodes(r *call) (any, error) {
	out := []map[string]any{}
	for _, name := range r.c.names {
		n := r.c.nodes[name]
		e := map[string]any{"id": "node/" + name, "node": name, "type": "node", "level": "", "status": "online",
			"ssl_fingerprint": "A3:D0:ED:80:A1:A4:B5:B7:C6:A1:14:27:51:1C:FF:CB:BE:F4:B3:71:60:B5:A9:9C:EF:ED:75:69:41:F1:94:7F"}
		if !n.up {
			e["status"] = "offline"
		} else if r.c.may(r.who, "/nodes/"+name, privBits["Sys.Audit"], false) {
			for k, v := range r.c.nodeFigures(n) {
				e[k] = v
			}
		}
		out = append(out, e)
	}
	return out, nil
}

func nodeStatus(r *call) (any, error) {
	f := r.c.nodeFigures(r.node)
	kernel := "6.12.117+deb13-amd64"
	build := "#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-11-12)"
	return map[string]any{
		"boot-info": map[string]any{"mode": "legacy-bios"}, "cpu": f["cpu"], "wait": 0, "idle": 0, "uptime": f["uptime"],
		"cpuinfo": map[string]any{"cores": f["maxcpu"], "cpus": f["maxcpu"], "sockets": 1, "user_hz": 100, "hvm": "1", "mhz": "2596.093", "family": "6",
			"flags": "fpu", "model": "sim", "vendor": "AuthenticAMD"},
		"current-kernel": map[string]any{"machine": "x86_64", "release": kernel, "sysname": "Linux", "version": build},
		"kversion":       "Linux " + kernel + " " + build, "ksm": map[string]any{"shared": 0}, "loadavg": []string{"0.10", "0.20", "0.10"},
		"memory":     map[string]any{"total": 16 << 30, "used": 2 << 30, "free": 14 << 30, "available": 14 << 30},
		"swap":       map[string]any{"total": 0, "used": 0, "free": 0},
		"rootfs":     map[string]any{"total": 64 << 30, "used": 3 << 30, "free": 61 << 30, "avail": 61 << 30},
		"pveversion": "pve-manager/" + r.c.release + "/b5a8d1e2c3f40917",
	}, nil
}

func clusterStatus(r *call) (any, error) {
	out := []map[string]any{}
	if len(r.c.names) > 1 {
		out = append(out, map[string]any{"id": "cluster", "name": "sim", "type": "cluster", "nodes": len(r.c.names), "quorate": 1, "version": 1})
	}
	for i, name := range r.c.names {
		id := i + 1
		if len(r.c.names) == 1 {
			id = 0
		}
		out = append(out, map[string]any{"id": "node/" + name, "name": name, "type": "node", "ip": "10.0.2.15", "level": "",
			"local": bit(name == r.node.name), "nodeid": id, "online": bit(r.c.nodes[name].up)})
	}
	return out, nil
}

// getOptions shows the datacenter's options; to who lacks Sys.Audit only the
// tags they may use.
func getOptions(r *call) (any, error) {
	out := map[string]any{}
	if r.c.may(r.who, "/", privBits["Sys.Audit"], false) {
		for k, v := range r.c.options {
			if k == "registered-tags" {
				out[k] = splitList(v)
			} else if strings.Contains(v, "=") {
				out[k] = parseMount(v)
			} else {
				out[k] = v
			}
		}
	}
	out["allowed-tags"] = sortedKeys(r.c.tagRules(r.who).allowed)
	return out, nil
}

func putOptions(r *call) (any, error) {
	for _, k := range splitList(r.take("delete")) {
		delete(r.c.options, k)
	}
	for k, v := range r.params {
		r.c.options[k] = v
	}
	return nil, nil
}

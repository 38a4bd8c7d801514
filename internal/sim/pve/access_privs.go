package pve

import (
	"sort"
	"strings"
)

// privs is a set of privileges.
type privs uint64

// privGroups are Proxmox's privileges by area, in the order root-only, admin,
// user, audit (PVE::AccessControl, $privgroups).
var privGroups = map[string][4]string{
	"VM": {"",
		"VM.Config.Disk VM.Config.CPU VM.Config.Memory VM.Config.Network VM.Config.HWType VM.Config.Options VM.Allocate VM.Clone VM.Migrate VM.Replicate VM.Snapshot VM.Snapshot.Rollback VM.GuestAgent.FileRead VM.GuestAgent.FileWrite VM.GuestAgent.FileSystemMgmt VM.GuestAgent.Unrestricted",
		"VM.Config.CDROM VM.Config.Cloudinit VM.Console VM.Backup VM.PowerMgmt",
		"VM.Audit VM.GuestAgent.Audit"},
	"Sys":       {"Sys.PowerMgmt Sys.Modify Sys.Incoming Sys.AccessNetwork", "Sys.Console Sys.Syslog", "", "Sys.Audit"},
	"Datastore": {"", "Datastore.Allocate Datastore.AllocateTemplate", "Datastore.AllocateSpace", "Datastore.Audit"},
	"SDN":       {"", "SDN.Allocate", "SDN.Use", "SDN.Audit"},
	"User":      {"Realm.Allocate", "User.Modify Group.Allocate Realm.AllocateUser", "", ""},
	"Pool":      {"", "Pool.Allocate", "", "Pool.Audit"},
	"Mapping":   {"", "Mapping.Modify", "Mapping.Use", "Mapping.Audit"},
}

// privNames and privBits number the privileges, alphabetically.
var privNames, privBits = numberPrivs()

// allPrivs is what root@pam has.
var allPrivs = privs(1)<<len(privNames) - 1

func numberPrivs() ([]string, map[string]privs) {
	names := []string{"Permissions.Modify", "VM.Monitor"}
	for _, g := range privGroups {
		names = append(names, strings.Fields(strings.Join(g[:], " "))...)
	}
	sort.Strings(names)
	bits := map[string]privs{}
	for i, n := range names {
		bits[n] = 1 << i
	}
	return names, bits
}

// privSet is the set of the privileges named in a list.
func privSet(list string) privs {
	var p privs
	for _, n := range splitList(list) {
		p |= privBits[n]
	}
	return p
}

// names lists the privileges in the set.
func (p privs) names() []string {
	var out []string
	for i, n := range privNames {
		if p&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return out
}

// builtinRoles are the roles every release has. VM.Monitor became the
// VM.GuestAgent privileges with release 9, which also brought VM.Replicate.
func builtinRoles(release string) map[string]privs {
	gone := privSet("VM.Monitor")
	if !atLeast(release, "9") {
		gone = privSet("VM.Replicate VM.GuestAgent.FileRead VM.GuestAgent.FileWrite VM.GuestAgent.FileSystemMgmt VM.GuestAgent.Unrestricted VM.GuestAgent.Audit")
	}
	roles := map[string]privs{
		"NoAccess": 0, "Administrator": allPrivs &^ gone,
		"PVETemplateUser": privSet("VM.Clone VM.Audit"),
	}
	var admin, audit privs
	names := map[string]string{"Sys": "PVESys", "VM": "PVEVM", "Datastore": "PVEDatastore", "SDN": "PVESDN",
		"User": "PVEUser", "Pool": "PVEPool", "Mapping": "PVEMapping"}
	for area, g := range privGroups {
		a, u, r := privSet(g[1]), privSet(g[2]), privSet(g[3])
		if area == "VM" && gone != privSet("VM.Monitor") {
			a |= privSet("VM.Monitor")
		}
		roles[names[area]+"Admin"] = (a | u | r) &^ gone
		if g[2] != "" {
			roles[names[area]+"User"] = (u | r) &^ gone
		}
		admin |= a | u | r
		audit |= r
	}
	roles["PVEAuditor"] = audit &^ gone
	roles["PVEAdmin"] = admin &^ gone
	return roles
}

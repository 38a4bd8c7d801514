package pve

// Names of what Lab sets up.
const (
	LabTemplates = "dayfly-templates" // resource pool of the templates
	LabRunners   = "dayfly-runners"   // resource pool of the runners
	LabToken     = "dayfly@pve!mgr"
	LabStorage   = "local-zfs"
	LabBridge    = "vmbr0"
	LabBase      = "local:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst"
)

// Lab sets up the footprint that dayfly recommends: two resource pools (the
// token may clone and read the templates, and make, configure, power and
// destroy the runners), a ZFS storage and a directory with a base image, the
// bridge, and a privilege separated token, with every ACL on both the user and
// the token. It returns the token as "USER@REALM!TOKENID=SECRET".
//
// Templates are the caller's: AddTemplate with ResourcePool LabTemplates and
// Storage LabStorage.
func Lab(c *Cluster) (token string) {
	c.AddStorage(Storage{ID: LabStorage, Type: "zfspool"})
	c.AddStorage(Storage{ID: "local", Type: "dir", Path: "/var/lib/vz", Content: []string{"vztmpl", "backup", "iso", "snippets"},
		Files: []Archive{{Name: "vztmpl/debian-13-standard_13.1-1_amd64.tar.zst", Size: 130 << 20}}})
	c.AddResourcePool(LabTemplates)
	c.AddResourcePool(LabRunners)
	c.AddRole("DayflyTemplates", "VM.Audit", "VM.Clone")
	c.AddRole("DayflyRunners", "VM.Allocate,VM.Audit,VM.PowerMgmt,VM.Config.Options,VM.Config.Network,VM.Config.CPU,VM.Config.Memory,Pool.Audit")
	c.AddRole("DayflyStorage", "Datastore.AllocateSpace,Datastore.Audit")
	c.AddRole("DayflyNet", "SDN.Use")
	c.AddUser("dayfly@pve")
	secret := c.AddToken(LabToken, true)
	for path, role := range map[string]string{
		"/pool/" + LabTemplates: "DayflyTemplates", "/pool/" + LabRunners: "DayflyRunners",
		"/storage/" + LabStorage: "DayflyStorage", "/sdn/zones/localnetwork/" + LabBridge: "DayflyNet",
	} {
		c.SetACL(path, role, true, "dayfly@pve", LabToken)
	}
	return LabToken + "=" + secret
}

// LabBuilder adds a token for building templates, with the privileges of
// facts page section 5.4 on the templates' resource pool and both storages.
func LabBuilder(c *Cluster) (token string) {
	const id = "packer@pve!build"
	c.AddRole("DayflyBuilder", "VM.Allocate,VM.Audit,VM.Clone,VM.Console,VM.PowerMgmt,VM.Config.Disk,VM.Config.CPU,VM.Config.Memory,VM.Config.Network,VM.Config.Options,Pool.Audit")
	c.AddRole("DayflyUpload", "Datastore.AllocateSpace,Datastore.AllocateTemplate,Datastore.Audit")
	c.AddUser("packer@pve")
	secret := c.AddToken(id, true)
	c.SetACL("/pool/"+LabTemplates, "DayflyBuilder", true, "packer@pve", id)
	for _, s := range []string{LabStorage, "local"} {
		c.SetACL("/storage/"+s, "DayflyUpload", true, "packer@pve", id)
	}
	c.AddRole("DayflyNet", "SDN.Use")
	c.SetACL("/sdn/zones/localnetwork/"+LabBridge, "DayflyNet", true, "packer@pve", id)
	return id + "=" + secret
}

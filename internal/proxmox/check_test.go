package proxmox

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// bigPool changes everything that a pool can change.
var bigPool = fleet.Pool{
	Name: "web", Template: fleet.Ref{Family: "ubuntu-24.04", Version: "2.335.1-1"},
	Size: fleet.Size{Cores: 4, MemoryMiB: 4096}, Network: fleet.Network{Bridge: "vmbr0", VLAN: 30},
	Env: fleet.Env{"HTTP_PROXY": "http://10.20.0.5:3128"},
}

func (w *world) check(pools ...fleet.Pool) []Problem {
	w.Helper()
	problems, err := w.client.Check(w.Context(), pools, []string{"pve"})
	if err != nil {
		w.Fatal(err)
	}
	return problems
}

func TestCheckOfTheRecommendedFootprintFindsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		if got := w.check(bigPool); len(got) != 0 {
			t.Errorf("got %v, want no problem", got)
		}
		w.clone(20001)
		if got := w.check(bigPool); len(got) != 0 {
			t.Errorf("with a runner: got %v, want no problem", got)
		}
	})
}

func TestCheckNamesEachMissingPrivilege(t *testing.T) {
	const runners, templates = "/pool/" + pve.LabRunners, "/pool/" + pve.LabTemplates
	for _, c := range []struct {
		path, role, revoke string // the role that is replaced by one without that privilege
		privs              string
		want               Problem
	}{
		{runners, "DayflyRunners", "VM.PowerMgmt", "VM.Allocate,VM.Audit,VM.Config.Options,VM.Config.Network,VM.Config.CPU,VM.Config.Memory,Pool.Audit",
			Problem{Path: runners, Privilege: "VM.PowerMgmt",
				Command: "pveum acl modify /pool/dayfly-runners --users 'dayfly@pve' --tokens 'dayfly@pve!mgr' --roles DayflyRunners"}},
		{runners, "DayflyRunners", "VM.Config.CPU", "VM.Allocate,VM.Audit,VM.PowerMgmt,VM.Config.Options,VM.Config.Network,VM.Config.Memory,Pool.Audit",
			Problem{Path: runners, Privilege: "VM.Config.CPU",
				Command: "pveum acl modify /pool/dayfly-runners --users 'dayfly@pve' --tokens 'dayfly@pve!mgr' --roles DayflyRunners"}},
		{templates, "DayflyTemplates", "VM.Clone", "VM.Audit",
			Problem{Path: templates, Privilege: "VM.Clone",
				Command: "pveum acl modify /pool/dayfly-templates --users 'dayfly@pve' --tokens 'dayfly@pve!mgr' --roles DayflyTemplates"}},
		{"/storage/" + pve.LabStorage, "DayflyStorage", "Datastore.AllocateSpace", "Datastore.Audit",
			Problem{Path: "/storage/local-zfs", Privilege: "Datastore.AllocateSpace",
				Command: "pveum acl modify /storage/local-zfs --users 'dayfly@pve' --tokens 'dayfly@pve!mgr' --roles DayflyStorage"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, pve.Config{})
			// On the token alone: what it has is what both have.
			w.sim.RevokeACL(c.path, c.role, pve.LabToken)
			w.sim.AddRole("Less", c.privs)
			w.sim.SetACL(c.path, "Less", true, pve.LabToken)
			got := w.check(bigPool)
			if len(got) != 1 {
				t.Fatalf("without %s: got %v, want one problem", c.revoke, got)
			}
			p := got[0]
			if p.Path != c.want.Path || p.Privilege != c.want.Privilege || p.Command != c.want.Command || p.Advice {
				t.Errorf("without %s: got %+v, want %+v", c.revoke, p, c.want)
			}
			if !strings.HasPrefix(p.Role, "pveum role modify "+c.role+" --append 1 --privs "+c.revoke+" || pveum role add "+c.role+" --privs ") ||
				p.Hint() != p.Role+"; "+p.Command || p.String() != p.What+"; hint: "+p.Hint() {
				t.Errorf("without %s: role command %q, text %q", c.revoke, p.Role, p)
			}
		})
	}
}

func TestCheckAsksForTheExactBridgeAndVLAN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.sim.RevokeACL("/sdn/zones/localnetwork/vmbr0", "DayflyNet", pve.LabToken)
		w.grantVLAN()
		var paths []string
		for _, p := range w.check(bigPool) {
			paths = append(paths, p.Path+" "+p.Privilege)
		}
		// The template's own bridge is checked by the clone, VLAN 30 by the PUT.
		if want := []string{"/sdn/zones/localnetwork/vmbr0 SDN.Use"}; !slices.Equal(paths, want) {
			t.Errorf("got %q, want %q", paths, want)
		}
		pool := bigPool
		pool.Network.VLAN = 31
		paths = nil
		for _, p := range w.check(pool) {
			paths = append(paths, p.Path+" "+p.Privilege)
		}
		if want := []string{"/sdn/zones/localnetwork/vmbr0 SDN.Use", "/sdn/zones/localnetwork/vmbr0/31 SDN.Use"}; !slices.Equal(paths, want) {
			t.Errorf("got %q, want %q", paths, want)
		}
	})
}

func TestCheckOfATokenWithNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		for path, role := range map[string]string{
			"/pool/" + pve.LabTemplates: "DayflyTemplates", "/pool/" + pve.LabRunners: "DayflyRunners",
			"/storage/" + pve.LabStorage: "DayflyStorage", "/sdn/zones/localnetwork/vmbr0": "DayflyNet", "/storage/nas": "DayflyStorage",
		} {
			w.sim.RevokeACL(path, role, pve.LabToken)
		}
		lacking := map[string]bool{}
		for _, p := range w.check(bigPool) {
			lacking[p.Privilege] = true
		}
		for _, want := range []string{"VM.Allocate", "VM.Audit", "VM.PowerMgmt", "VM.Config.Options", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Network", "VM.Clone"} {
			if !lacking[want] {
				t.Errorf("missing %s is not said", want)
			}
		}
	})
}

// pveum runs commands of hints as root's shell on a node would.
func (w *world) pveum(roles map[string]string, line string) {
	w.Helper()
	word := regexp.MustCompile(`'([^']*)'|(\S+)`)
	run := func(command string) bool {
		args := map[string]string{}
		var words []string
		for _, m := range word.FindAllStringSubmatch(command, -1) {
			words = append(words, m[1]+m[2])
		}
		for i, a := range words {
			if strings.HasPrefix(a, "--") && i+1 < len(words) {
				args[a] = words[i+1]
			}
		}
		verb, name := strings.Join(words[:min(3, len(words))], " "), words[min(3, len(words)-1)]
		switch _, known := roles[name]; {
		case verb == "pveum role modify" && known && args["--append"] == "1":
			roles[name] += "," + args["--privs"]
			w.sim.AddRole(name, roles[name])
		case verb == "pveum role add" && !known:
			roles[name] = args["--privs"]
			w.sim.AddRole(name, roles[name])
		case verb == "pveum acl modify" && roles[args["--roles"]] != "":
			w.sim.SetACL(name, args["--roles"], true, args["--users"], args["--tokens"])
		case strings.HasPrefix(verb, "pveum role"):
			return false
		default:
			w.Errorf("no command of pveum: %s", command)
		}
		return true
	}
	for command := range strings.SplitSeq(line, "; ") {
		for alternative := range strings.SplitSeq(command, " || ") {
			if run(alternative) {
				break
			}
		}
	}
}

// TestHintsGrantAllThatIsMissing begins with a token that may do nothing and
// does what it is told, until nothing is missing: then a runner can be made.
func TestHintsGrantAllThatIsMissing(t *testing.T) {
	for name, roles := range map[string]map[string]string{
		"no roles": {}, "roles that lack everything": {"DayflyRunners": "Sys.Audit", "DayflyTemplates": "Sys.Audit", "DayflyStorage": "Sys.Audit", "DayflyNet": "Sys.Audit"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, pve.Config{})
			for path, role := range map[string]string{
				"/pool/" + pve.LabTemplates: "DayflyTemplates", "/pool/" + pve.LabRunners: "DayflyRunners",
				"/storage/" + pve.LabStorage: "DayflyStorage", "/sdn/zones/localnetwork/vmbr0": "DayflyNet", "/storage/nas": "DayflyStorage",
			} {
				w.sim.RevokeACL(path, role, "dayfly@pve", pve.LabToken)
			}
			pool := bigPool
			pool.Size.DiskMiB, pool.Size.CPUUnits = 16384, 200
			var problems []Problem
			for range 5 {
				if problems = w.check(pool); len(problems) == 0 {
					break
				}
				for _, p := range problems {
					w.pveum(roles, p.Hint())
				}
			}
			if len(problems) > 0 {
				t.Fatalf("%s: after five rounds of doing what is told: %v", name, problems)
			}
			s := spec(20001)
			s.Pool.Size, s.Pool.Network, s.Pool.Env = pool.Size, pool.Network, pool.Env
			if err := w.client.Clone(t.Context(), s); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := w.client.Start(t.Context(), "pve", 20001); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := w.destroy(t.Context(), 20001); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func TestCheckSeesWhatIsWrongAround(t *testing.T) {
	for name, c := range map[string]struct {
		release string
		change  func(*world)
		want    string
		advice  bool
	}{
		"no env":            {"8.4.21", func(*world) {}, "Proxmox VE 8.4.21 has no container option env: a JIT config cannot be delivered by env; hint: upgrade", false},
		"no resource pool":  {"", func(w *world) { w.client.conf.RunnerPool = "nope" }, "there is no resource pool nope; hint: pveum pool add nope", false},
		"foreign in range":  {"", func(w *world) { w.foreign("") }, "container 20500 (mail) on node pve is left alone: not in resource pool dayfly-runners; hint: " + foreignFix, false},
		"unmarked in range": {"", func(w *world) { w.foreign(pve.LabRunners) }, `container 20500 (mail) on node pve is left alone: no line "dayfly-runner:"`, false},
		"slow storage": {"", func(w *world) { w.addTemplate(9005, "nas", "2.335.1-1", nil) },
			"template 9005 (ubuntu-24.04@2.335.1-1) on node pve is on storage nas, which makes no linked clones", true},
		"unusable template": {"", func(w *world) { w.addTemplate(9006, pve.LabStorage, "9", map[string]string{"description": "x"}) },
			`template 9006 (ubuntu-9006) on node pve is not used: no line "dayfly:"`, true},
		"template of another contract": {"", func(w *world) {
			info := TemplateInfo{Schema: 1, Family: "ubuntu-24.04", Version: "2.335.1-1", State: "ready", Contract: "3"}
			w.addTemplate(9007, pve.LabStorage, "2.335.1-1", map[string]string{"description": info.Describe()})
		}, "template 9007 (ubuntu-24.04@2.335.1-1) on node pve is not used: its guest keeps contract 3, which this dayfly does not know: " +
			"it is older than the plugin that baked it; hint: bake it again", false},
		"guest without env": {"", func(w *world) {
			info := TemplateInfo{Schema: 1, Family: "ubuntu-24.04", Version: "2.335.1-1", State: "ready", Contract: "1"}
			w.addTemplate(9007, pve.LabStorage, "2.335.1-1", map[string]string{"description": info.Describe()})
		}, "pool web does not use template 9007 (ubuntu-24.04@2.335.1-1) on node pve: its guest is of a release without env", false},
		"template without a contract": {"", func(w *world) {
			info := TemplateInfo{Schema: 1, Family: "ubuntu-24.04", Version: "2.335.1-1", State: "ready"}
			w.addTemplate(9007, pve.LabStorage, "2.335.1-1", map[string]string{"description": info.Describe()})
		}, "template 9007 (ubuntu-24.04@2.335.1-1) on node pve does not say which contract its guest keeps", true},
		"node away": {"", func(w *world) {
			w.once("GET /nodes/pve/lxc", stage.Fault{Code: 595, Reason: "No route to host"})
		}, "list containers of node pve: No route to host", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, pve.Config{Release: c.release})
			c.change(w)
			got := w.check(bigPool)
			ok := func(p Problem) bool { return strings.HasPrefix(p.String(), c.want) && p.Advice == c.advice }
			if !slices.ContainsFunc(got, ok) {
				t.Errorf("%s: got %v, want %q", name, got, c.want)
			}
		})
	}
}

// foreign puts a container that is not ours into the range.
func (w *world) foreign(pool string) {
	w.sim.SetACL("/vms", "DayflyTemplates", true, "dayfly@pve", pve.LabToken)
	w.sim.AddContainer(pve.Container{VMID: 20500, ResourcePool: pool, Storage: pve.LabStorage, Config: map[string]string{"hostname": "mail"}})
}

func TestVersionWithTheNewlineHoleIsSaid(t *testing.T) {
	for text, want := range map[string]string{
		"9.1.4":  "Proxmox VE 9.1.4 may take a newline in env",
		"9.2.11": "",
		"9.0.3":  "Proxmox VE 9.0.3 has no container option env",
	} {
		got := ""
		for _, p := range checkVersion(parseVersion(text)) {
			got += p.String()
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func TestZoneOfAVnetIsFound(t *testing.T) {
	all := map[string]map[string]boolean{"/sdn/zones/office/ci": {"SDN.Use": true}, "/sdn/zones/localnetwork/vmbr0": {"SDN.Use": true}}
	got := map[string]string{}
	for _, bridge := range []string{"ci", "vmbr0", "vmbr1"} {
		got[bridge] = vnet(iface{"bridge": bridge}.zone(), all)
	}
	want := map[string]string{"ci": "/sdn/zones/office/ci", "vmbr0": "/sdn/zones/localnetwork/vmbr0", "vmbr1": "/sdn/zones/localnetwork/vmbr1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}

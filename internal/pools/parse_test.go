package pools

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// everything sets every attribute of the language.
const everything = `
dayfly {
  schema           = 1
  required_version = ">= 0.1.0, < 99.0.0"
}

locals {
  linux = ["self-hosted", "linux", local.arch]
  arch  = "x64"
  big   = { cores = 8, memory = "${4 * 4}GiB" }
  proxy = { HTTPS_PROXY = "http://10.20.0.5:3128" }
}

limits {
  max           = 40
  per_node      = 20
  node_tasks    = 4
  storage_tasks = 2
}

defaults {
  template = template.ubuntu-24
  github {
    org   = "acme"
    group = "proxmox"
  }
  timeouts {
    register = "90s"
    job      = "1h30m"
  }
  scale {
    max = 5
  }
  env = { NO_PROXY = "localhost" }
}

template "ubuntu-24" {
  family   = "ubuntu-24.04"
  version  = "~> 2.335, != 2.336.1-1"
  keep     = 5
  replicas = 2
  max_age  = "30d"
}

template "pinned" {
  family  = "ubuntu-24.04"
  version = "2.335.1-1"
}

pool "linux-x64" {
  description = "General purpose runners"
  labels      = concat(local.linux, ["dayfly"])
  template    = template.pinned
  enabled     = false

  scale {
    max   = 12
    spare = 2
    warm  = 3
    schedule {
      days     = ["mon", "fri"]
      from     = "08:30"
      for      = "10h"
      timezone = "Europe/Berlin"
      warm     = 5
    }
    schedule {
      warm = 4
    }
  }
  placement {
    nodes        = ["pve1", "pve2"]
    max_per_node = 8
    strategy     = "pack"
    reserve {
      memory  = "8GiB"
      cores   = 2
      storage = "20GiB"
    }
  }
  rollout {
    smoke                  = 2
    wait                   = "10s"
    bake                   = "0s"
    max_infra_failures     = 3
    max_boot_time_increase = "20%"
    progress_deadline      = "1d"
    on_failure             = "pause"
    window {
      days     = ["sat"]
      from     = "06:00"
      for      = "4h"
      timezone = "Europe/Berlin"
    }
    window {}
    canary {
      jobs           = 3
      max_concurrent = 2
    }
    canary {
      percent = 10
    }
    canary {
      jobs = 0
    }
  }
  size {
    cores  = local.big.cores
    memory = local.big.memory
    swap   = "0"
    disk   = "40GiB"

    cpu_units = 50
  }
  env = merge(local.proxy, { "GOFLAGS" = "-mod=mod -trimpath", JAVA_HOME = "/opt/jdk" })
  access {
    repos     = ["acme/*"]
    workflows = ["ci.yml@main"]
    events    = ["push"]
    public    = true
  }
  network {
    bridge   = "vmbr0"
    vlan     = 240
    firewall = false
    egress   = "all"
    allow    = ["10.0.0.1"]
  }
  timeouts {
    clone  = "10m"
    launch = "45s"
    idle   = "2m"
    warm   = "2h"
  }
  retry {
    attempts  = 3
    backoff   = "5s..2m"
    lost_jobs = 2
  }
}

pool "least" {
  labels = ["release"]
  github {
    repo = "acme/app"
  }
  network {
    egress = "none"
    allow  = ["10.20.0.1:53/udp", "10.20.0.0/24:3128", "192.0.2.1", "fd00::/8", "[fd00::1]:443/tcp"]
  }
}
`

func TestEveryAttributeReachesTheFleet(t *testing.T) {
	got, diags := Parse(map[string][]byte{"all.hcl": []byte(everything)})
	if diags.Len() > 0 {
		t.Fatalf("diagnostics:\n%s", diags.Error())
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skipf("needs the time zone database: %v", err)
	}
	want := fleet.Desired{
		Templates: []fleet.TemplateBlock{{
			Ref: fleet.Ref{Family: "ubuntu-24.04", Version: "2.335.1-1"}, Name: "pinned",
			Keep: 3, Replicas: 1, MaxAge: 45 * 24 * time.Hour, Pools: []string{"linux-x64"},
		}, {
			Ref: fleet.Ref{Family: "ubuntu-24.04"}, Name: "ubuntu-24", Follow: fleet.Constraint{{Op: "~>", Version: "2.335"}, {Op: "!=", Version: "2.336.1-1"}},
			Keep: 5, Replicas: 2, MaxAge: 30 * 24 * time.Hour, Pools: []string{"least"},
		}},
		Limits: fleet.Limits{Max: 40, PerNode: 20, NodeTasks: 4, StoreTasks: 2},
		Pools: []fleet.Pool{{
			Name: "linux-x64", Scope: "acme", Group: "proxmox",
			Labels:   []string{"self-hosted", "linux", "x64", "dayfly"},
			Template: fleet.Ref{Family: "ubuntu-24.04", Version: "2.335.1-1"}, Keep: 3, Replicas: 1, MaxAge: 45 * 24 * time.Hour,
			Roll: fleet.Rolling{
				Wait: 10 * time.Second, Smoke: 2, MaxFailures: 3, MaxSlower: 20, Deadline: 24 * time.Hour, Pause: true,
				Canary: []fleet.Canary{{Jobs: 3, Percent: 100, AtOnce: 2}, {Jobs: 5, Percent: 10}},
				Windows: []fleet.Window{
					{Days: [7]bool{6: true}, From: 6 * time.Hour, For: 4 * time.Hour, Zone: berlin},
					{Days: [7]bool{true, true, true, true, true, true, true}, For: 24 * time.Hour, Zone: time.UTC},
				},
			},
			Pack: true, Reserve: fleet.Room{MemoryMiB: 8 << 10, Cores: 2, StorageMiB: 20 << 10},
			Schedules: []fleet.Schedule{
				{Window: fleet.Window{Days: [7]bool{1: true, 5: true}, From: 8*time.Hour + 30*time.Minute, For: 10 * time.Hour, Zone: berlin}, Warm: 5},
				{Window: fleet.Window{Days: [7]bool{true, true, true, true, true, true, true}, For: 24 * time.Hour, Zone: time.UTC}, Warm: 4},
			},
			Spare: 2, Warm: 3, Max: 12, Nodes: []string{"pve1", "pve2"}, PerNode: 8, Drained: true,
			Size:    fleet.Size{Cores: 8, MemoryMiB: 16 << 10, SwapMiB: -1, DiskMiB: 40 << 10, CPUUnits: 50},
			Env:     fleet.Env{"HTTPS_PROXY": "http://10.20.0.5:3128", "GOFLAGS": "-mod=mod -trimpath", "JAVA_HOME": "/opt/jdk"},
			Access:  fleet.Access{Repos: []string{"acme/*"}, Workflows: []string{"ci.yml@main"}, Events: []string{"push"}, Public: true},
			Network: fleet.Network{Bridge: "vmbr0", VLAN: 240},
			Timeouts: fleet.Timeouts{Clone: 10 * time.Minute, Launch: 45 * time.Second,
				Register: 90 * time.Second, Idle: 2 * time.Minute, Job: 90 * time.Minute, Warm: 2 * time.Hour},
			Retry: fleet.Retry{Min: 5 * time.Second, Max: 2 * time.Minute, Attempts: 3}, Reruns: 2,
		}, {
			Name: "least", Scope: "acme/app", Labels: []string{"release"},
			Egress: fleet.Egress{Policy: fleet.Nothing, Allow: []fleet.Peer{
				{To: "10.20.0.1", Protocol: "udp", Port: 53},
				{To: "10.20.0.0/24", Protocol: "tcp", Port: 3128},
				{To: "192.0.2.1"}, {To: "fd00::/8"},
				{To: "fd00::1", Protocol: "tcp", Port: 443},
			}},
			Env:      fleet.Env{"NO_PROXY": "localhost"},
			Reserve:  fleet.Room{StorageMiB: 2 << 10},
			Template: fleet.Ref{Family: "ubuntu-24.04"}, Max: 5, Keep: 5, Replicas: 2, MaxAge: 30 * 24 * time.Hour,
			Follow: fleet.Constraint{{Op: "~>", Version: "2.335"}, {Op: "!=", Version: "2.336.1-1"}},
			Roll: fleet.Rolling{
				Wait: time.Minute, Smoke: 1, MaxFailures: 2, MaxSlower: 50, Deadline: 2 * time.Hour, Bake: 24 * time.Hour,
				Canary: []fleet.Canary{{Jobs: 5, AtOnce: 1}, {Jobs: 20, Percent: 25}},
			},
			Timeouts: fleet.Timeouts{Clone: 5 * time.Minute, Launch: time.Minute,
				Register: 90 * time.Second, Idle: 5 * time.Minute, Job: 90 * time.Minute, Warm: 4 * time.Hour},
			Retry: fleet.Retry{Min: 2 * time.Second, Max: time.Minute, Attempts: 5},
		}},
	}
	zones := cmp.Comparer(func(a, b *time.Location) bool { return a.String() == b.String() })
	if diff := cmp.Diff(want, got, zones); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestFilesAreOneConfigurationInAnyOrder(t *testing.T) {
	parts := map[string]string{
		"z.hcl":     "dayfly {\n  schema = 1\n}\n",
		"a.hcl":     "pool \"a\" {\n  labels = local.l\n}\n",
		"sub/b.hcl": "locals {\n  l = [local.m]\n}\n",
		"sub/c.hcl": "locals {\n  m = \"x\"\n}\ntemplate \"t\" {\n  family = \"f\"\n}\n",
		"sub/d.hcl": "defaults {\n  template = template.t\n  scale {\n    max = 1\n  }\n  github {\n    org = \"acme\"\n  }\n}\n",
	}
	files := map[string][]byte{}
	for name, src := range parts {
		files[name] = []byte(src)
	}
	got, diags := Parse(files)
	if diags.Len() > 0 || len(got.Pools) != 1 || got.Pools[0].Labels[0] != "x" {
		t.Errorf("got %+v and diagnostics %s", got, diags.Error())
	}
}

func TestPoolsOwnScopeTakesNoGroupFromDefaults(t *testing.T) {
	const src = head + `
template "t" {
  family = "f"
}
defaults {
  template = template.t
  github {
    org   = "acme"
    group = "g"
  }
  scale {
    max = 1
  }
}
pool "default" {
  labels = ["a"]
}
pool "own-group" {
  labels = ["b"]
  github {
    group = "h"
  }
}
pool "own-org" {
  labels = ["c"]
  github {
    org = "other"
  }
}
pool "own-repo" {
  labels = ["d"]
  github {
    repo = "acme/app"
  }
}
`
	got, diags := Parse(map[string][]byte{"a.hcl": []byte(src)})
	if diags.HasErrors() {
		t.Fatal(diags.Error())
	}
	want := []string{"acme g", "acme h", "other ", "acme/app "}
	for i, p := range got.Pools {
		if is := string(p.Scope) + " " + p.Group; is != want[i] {
			t.Errorf("pool %s has scope and group %q, want %q", p.Name, is, want[i])
		}
	}
}

// TestEnvironmentIsBounded: a container's configuration and memory hold it.
func TestEnvironmentIsBounded(t *testing.T) {
	parse := func(variables int, value string) (fleet.Desired, string) {
		var env strings.Builder
		for n := range variables {
			fmt.Fprintf(&env, "V%d = %q\n", n, value)
		}
		got, diags := Parse(map[string][]byte{"a.hcl": []byte(withAttribute("pool", "env", "{\n"+env.String()+"}"))})
		return got, diags.Error()
	}
	for _, c := range []struct {
		variables int
		value     string
		want      string
	}{
		{64, "x", ""},
		{65, "x", "At most 64 variables are expected, not 65."},
		{3, strings.Repeat("x", 2048), ""},
		{1, strings.Repeat("x", 2049), "a value has 1 to 2048 characters"},
		{4, strings.Repeat("x", 2048), "It is too much: at most 64 variables with 8192 characters in all are expected, not 4 with 8200."},
	} {
		got, said := parse(c.variables, c.value)
		if c.want == "" && (said != "" || len(got.Pools[0].Env) != c.variables) || !strings.Contains(said, c.want) {
			t.Errorf("%d variables of %d characters: %.300s, want %q", c.variables, len(c.value), said, c.want)
		}
	}
}

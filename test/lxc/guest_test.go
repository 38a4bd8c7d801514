package lxc

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/host"
	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/test/lxc/node"
)

const dockerStep = `mkdir -p image && cp /bin/busybox image/
tar -C image -c . | docker import - local/busybox
docker run --rm --network none local/busybox /busybox echo hello from docker`

// A smoke boot says that all is well in the only way it has: by an address.
func TestSmokeBootTellsItsResult(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	for github, want := range map[string]string{"http://" + w.Broker + "/": "127.83.77.0/32", "http://" + lab.Gateway + ":1/": "127.83.77.8/32"} {
		g := w.clone(t, w.template(t))
		g.set(map[string]string{"env": "DAYFLY_SMOKE=" + github + "\x00DAYFLY_ENV_LAB_PROXY=http://10.20.0.5:3128"})
		g.start()
		g.until("its checks end with "+want, func() bool {
			data, err := g.w.Call(http.MethodGet, node.LXC(g.vmid, "/interfaces"), nil)
			return err == nil && strings.Contains(string(data), want)
		})
		if out, err := g.exec("systemctl show --property ExecMainStatus dayfly-smoke.service; systemctl show-environment"); err != nil || !strings.Contains(out, "LAB_PROXY=http://10.20.0.5:3128") {
			t.Errorf("the checks have no variables of the pool: %v: %s", err, out)
		}
	}
}

func TestJobRunsOnARealBoot(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	g := w.clone(t, w.template(t))
	j, log := g.runs("id; echo hello from bash; env | grep -c JITCONFIG || true; echo \"mask $(umask), $(ulimit -u) processes\"; stat -c 'config of mode %a' ../../../.credentials", dockerStep, "sudo -n cat /proc/1/environ | tr '\\0' '\\n' | cut -c1-60")
	if j.Conclusion != hub.Success || j.Runner != g.name {
		t.Errorf("the job ended with %q on %q\n%s\n%s", j.Conclusion, j.Runner, log, g.log())
	}
	for _, want := range []string{
		"##[group]dayfly template", "##[group]dayfly runner", "Container: " + g.name, "hello from bash", "hello from docker",
		"uid=1001(runner)", "\n0\nmask 0077, 16384 processes\nconfig of mode 600\n", "ACTIONS_RUNNER_INPUT_JITCONFIG=xxxx",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the job's log lacks %q:\n%s", want, log)
		}
	}
	g.ended()
	for file, want := range map[string]string{
		"var/lib/dayfly/exit.json":     `{"result":"success","code":"exited","status":"0","at":"2`,
		"var/lib/dayfly/journal.txt":   "Job build completed with result: Succeeded",
		"var/lib/dayfly/evidence/disk": "Filesystem", "var/lib/dayfly/evidence/limits": "cpu.stat: usage_usec",
		"var/lib/dayfly/evidence/started": "2", "var/lib/dayfly/evidence/completed": "2",
	} {
		if got := g.read(file); !strings.Contains(got, want) {
			t.Errorf("%s lacks %q: %s", file, want, got)
		}
	}
	if _, err := os.Stat(g.Path("var/lib/dayfly/started")); err != nil {
		t.Errorf("it is not marked as used: %v", err)
	}
	for _, gone := range []string{".credentials", ".credentials_rsaparams", ".runner"} {
		if got := g.read("opt/actions-runner/" + gone); !strings.Contains(got, "no such file") {
			t.Errorf("%s is still there", gone)
		}
	}
}

// TestEnvironmentOfThePoolReachesTheSteps by both ways, each value as it is. The
// variables mean nothing to PID 1, and the runner needs none of them.
func TestEnvironmentOfThePoolReachesTheSteps(t *testing.T) {
	w := inLab(t)
	env := fleet.Env{"LAB_PROXY": "http://10.20.0.5:3128/", "LAB_ODD": "it's [100 %] (good); #1  ~!{x} & <y> | *"}
	print := []string{`printf 'proxy is %s.\nodd is %s.\n' "$LAB_PROXY" "$LAB_ODD"; env | grep -c DAYFLY_ENV || true`}
	for way, launch := range map[string]func(*guest, string){
		"env": func(g *guest, config string) {
			list := []string{sim.JITVariable + "=" + config}
			for name, value := range env {
				list = append(list, host.EnvPrefix+name+"="+value)
			}
			g.set(map[string]string{"env": strings.Join(list, "\x00")})
			g.start()
		},
		"host": func(g *guest, config string) {
			g.adopt()
			g.start()
			if _, err := w.half(t).Inject(t.Context(), fleet.VMID(g.vmid), g.name, fleet.NewSecret(config), nil, env); err != nil {
				t.Fatalf("%v\n%s", err, g.log())
			}
		},
	} {
		g := w.clone(t, w.template(t))
		id := g.job(print...)
		launch(g, g.mint())
		g.ended()
		log := w.GitHub.JobLog(id)
		for _, want := range []string{"proxy is http://10.20.0.5:3128/.\n", "odd is " + env["LAB_ODD"] + ".\n"} {
			if j, _ := w.GitHub.Job(id); j.Conclusion != hub.Success || !strings.Contains(log, want) {
				t.Errorf("%s: the job ended with %q, its log lacks %q:\n%s", way, j.Conclusion, want, log)
			}
		}
	}
}

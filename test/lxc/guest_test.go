package lxc

import (
	"net/http"
	"strings"
	"testing"

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
		g.set(map[string]string{"env": "DAYFLY_SMOKE=" + github})
		g.start()
		g.until("its checks end with "+want, func() bool {
			data, err := g.w.Call(http.MethodGet, node.LXC(g.vmid, "/interfaces"), nil)
			return err == nil && strings.Contains(string(data), want)
		})
	}
}

func TestJobRunsOnARealBoot(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	g := w.clone(t, w.template(t))
	j, log := g.runs("id; echo hello from bash; env | grep -c JITCONFIG || true", dockerStep, "sudo -n cat /proc/1/environ | tr '\\0' '\\n' | cut -c1-60")
	if j.Conclusion != hub.Success || j.Runner != g.name {
		t.Errorf("the job ended with %q on %q\n%s\n%s", j.Conclusion, j.Runner, log, g.log())
	}
	for _, want := range []string{
		"##[group]dayfly template", "##[group]dayfly runner", "Container: " + g.name, "hello from bash", "hello from docker",
		"uid=1001(runner)", "ACTIONS_RUNNER_INPUT_JITCONFIG=xxxx",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the job's log lacks %q:\n%s", want, log)
		}
	}
	g.ended()
	for file, want := range map[string]string{
		"var/lib/dayfly/exit.json": `{"result":"success","code":"exited","status":"0","at":"2`, "var/lib/dayfly/started": "2",
		"var/lib/dayfly/journal.txt":   "Job build completed with result: Succeeded",
		"var/lib/dayfly/evidence/disk": "Filesystem", "var/lib/dayfly/evidence/limits": "cpu.stat: usage_usec",
		"var/lib/dayfly/evidence/started": "2", "var/lib/dayfly/evidence/completed": "2",
	} {
		if got := g.read(file); !strings.Contains(got, want) {
			t.Errorf("%s lacks %q: %s", file, want, got)
		}
	}
	for _, gone := range []string{".credentials", ".credentials_rsaparams", ".runner"} {
		if got := g.read("opt/actions-runner/" + gone); !strings.Contains(got, "no such file") {
			t.Errorf("%s is still there", gone)
		}
	}
}

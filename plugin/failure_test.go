package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// outcome is what becomes of one source, beside all the others.
type outcome struct {
	more string              // settings of the source
	edit func(string) string // changes the source
	task string              // the nth task of this kind fails
	put  bool                // the nth change of a configuration is refused
	nth  int
	want string // what packer says of it; empty: it succeeds
	kept bool   // its template is ready
}

var outcomes = map[string]outcome{
	"good": {kept: true},
	"fine": {more: "replicas = 2", kept: true},
	"provisioner": {
		want: "Script exited with non-zero exit status: 7"},
	"storage": {
		edit: func(s string) string {
			return strings.Replace(s, fmt.Sprintf("storage = %q", pve.LabStorage), `storage = "thick"`, 1)
		},
		want: "storage thick is of type lvm, which makes no templates"},
	"halt":    {put: true, nth: 1, want: "configure container"},
	"create":  {task: "vzcreate", nth: 1, want: "make container"},
	"clone":   {edit: fromTemplate, task: "vzclone", nth: 1, want: "simulated"},
	"convert": {task: "vztemplate", nth: 1, want: "convert container"},
	"smoke":   {task: "vzstart", nth: 1, want: "smoke test: start container"},
	"replica": {more: "replicas = 2", task: "vzclone", nth: 2, want: "make replica 1 on node pve: simulated"},
	"stamp":   {put: true, nth: 4, want: "configure container"},
	"post":    {want: "Script exited with non-zero exit status: 8", kept: true},
}

// source is the earlier template that the source "clone" starts from.
const source = 9000

func fromTemplate(text string) string {
	text = regexp.MustCompile(`ostemplate  = .*`).ReplaceAllString(text, fmt.Sprintf("source_template {\n    vm_id = %d\n  }", source))
	return regexp.MustCompile(`(?s)rootfs \{.*?\}`).ReplaceAllString(text, "")
}

// fates decides what fails. Each source has VMIDs of its own, by which its
// tasks and requests are known: a hundred from 1000, 1100 and so on, in the
// order of the names.
type fates struct {
	mu   sync.Mutex
	seen map[string]int
}

var names = slices.Sorted(maps.Keys(outcomes))

func first(name string) int { return 1000 + 100*slices.Index(names, name) }

// strikes counts a task or a change, and reports whether it is the one.
func (f *fates) strikes(kind string, id int) bool {
	i := (id - 1000) / 100
	if id == source {
		i = slices.Index(names, "clone")
	}
	if id < 1000 || i >= len(names) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[names[i]+kind]++
	o := outcomes[names[i]]
	return f.seen[names[i]+kind] == o.nth && (o.task == kind || o.put && kind == "put")
}

func (f *fates) task(kind string, id int) string {
	if f.strikes(kind, id) {
		return "simulated"
	}
	return ""
}

var changed = regexp.MustCompile(`/lxc/(\d+)/config$`)

// serve has a cluster refuse what is to be refused.
func (f *fates) serve(sim http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m := changed.FindStringSubmatch(r.URL.Path); m != nil && r.Method == http.MethodPut {
			if id, err := strconv.Atoi(m[1]); err == nil && f.strikes("put", id) {
				stage.Reply(w, http.StatusForbidden, "Permission check failed", nil)
				return
			}
		}
		sim.ServeHTTP(w, r)
	})
}

const manyBuild = `
build {
  sources = [%s]
  provisioner "shell-local" {
    only   = ["dayfly-lxc.provisioner"]
    inline = ["exit 7"]
  }
  post-processor "shell-local" {
    only   = ["dayfly-lxc.post"]
    inline = ["exit 8"]
  }
}
`

// TestOneFailsAndTheOthersDoNot runs one build, on one Proxmox, of sources that
// fail in every way side by side with some that do not.
func TestOneFailsAndTheOthersDoNot(t *testing.T) {
	f := &fates{seen: map[string]int{}}
	w := newWorld(t, pve.Config{TaskFault: f.task})
	front := httptest.NewServer(f.serve(w.sim))
	t.Cleanup(front.Close)
	w.sim.AddStorage(pve.Storage{ID: "thick", Type: "lvm"})
	w.sim.SetACL("/storage/thick", "DayflyUpload", true, "packer@pve", "packer@pve!build")
	earlier := proxmox.TemplateInfo{Schema: 1, Family: "earlier", Version: "1", State: "ready"}
	w.sim.AddTemplate(pve.Template{VMID: source, ResourcePool: pve.LabTemplates, Storage: pve.LabStorage, Config: map[string]string{
		"description": earlier.Describe(), "tags": proxmox.TemplateTag + ";" + proxmox.ReadyTag}})
	var parts, refs []string
	for _, name := range names {
		o := outcomes[name]
		text := w.source(name, fmt.Sprintf("communicator = \"none\"\n  vm_id_range = \"%d-%d\"\n  %s", first(name), first(name)+99, o.more))
		text = strings.Replace(text, w.server.URL, front.URL, 1)
		if o.edit != nil {
			text = o.edit(text)
		}
		parts, refs = append(parts, text), append(refs, fmt.Sprintf("%q", "source.dayfly-lxc."+name))
	}
	w.write(append(parts, fmt.Sprintf(manyBuild, strings.Join(refs, ", ")))...)
	out, err := w.run("build", ".")
	if err == nil {
		t.Error("the build succeeded")
	}
	for _, name := range names {
		w.ended(name, outcomes[name], out)
	}
	w.count(5, 0) // the earlier one, good, fine twice, post
	w.secretFree(out)
}

// ended looks at what became of one source, and at what packer says of it in
// the end.
func (w *world) ended(name string, o outcome, out string) {
	w.Helper()
	ready := false
	for _, c := range w.sim.Containers() {
		info, err := proxmox.ReadTemplate(c.Config["description"])
		ready = ready || err == nil && info.Family == name && info.State == "ready"
	}
	if ready != o.kept {
		w.Errorf("%s: a finished template is there: %v, want %v", name, ready, o.kept)
	}
	want := o.want
	if want == "" {
		want = fmt.Sprintf("template %s@1.0.0-1 is %d on node pve", name, first(name))
	}
	said := regexp.MustCompile(`(?s)\n--> dayfly-lxc\.` + name + `: (.*?)\n(-->|\n==>|$)`).FindStringSubmatch(out)
	if said == nil || !strings.Contains(said[1], want) {
		w.Errorf("%s: packer says %q, want %q\n%s", name, said, want, out)
	}
}

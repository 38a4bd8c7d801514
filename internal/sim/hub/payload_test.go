package hub

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// shape is the set of key paths of a JSON value, with the kinds seen at each.
type shape map[string]map[string]bool

func (s shape) add(path string, v any) {
	kind := "null"
	switch v := v.(type) {
	case map[string]any:
		kind = "object"
		for k, x := range v {
			s.add(path+"."+k, x)
		}
	case []any:
		kind = "array"
		for _, x := range v {
			s.add(path+"[]", x)
		}
	case string:
		kind = "string"
	case float64:
		kind = "number"
	case bool:
		kind = "bool"
	}
	if s[path] == nil {
		s[path] = map[string]bool{}
	}
	s[path][kind] = true
}

func shapeOf(t *testing.T, body []byte) shape {
	t.Helper()
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("decode payload: %v", err)
	}
	s := shape{}
	s.add("", v)
	return s
}

// examples are the example payloads' shapes by event and action. Another folder
// of them can be named by DAYFLY_PAYLOADS, from the repository's root: files as
// workflow_job.queued.5.json or workflow_job/queued.payload.json.
func examples(t *testing.T) map[string][]shape {
	t.Helper()
	dir, named := os.Getenv("DAYFLY_PAYLOADS"), true
	switch {
	case dir == "":
		dir, named = filepath.Join(shared, "webhook-examples"), false
	case !filepath.IsAbs(dir):
		dir = filepath.Join("..", "..", "..", dir)
	}
	out := map[string][]shape{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		body, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return err
		}
		var about struct{ Action string }
		if err := json.Unmarshal(body, &about); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		key := path[:strings.IndexAny(path, "./")]
		if about.Action != "" {
			key += "." + about.Action
		}
		out[key] = append(out[key], shapeOf(t, body))
		return nil
	})
	switch {
	case named && (err != nil || len(out) == 0):
		t.Fatalf("example payloads in %s: none (%v)", dir, err)
	case len(out) == 0:
		t.Skipf("no example payloads in %s (%v): set DAYFLY_PAYLOADS to a folder of them", dir, err)
	case err != nil:
		t.Fatal(err)
	}
	return out
}

// free are paths below which keys are data, and paths that not every delivery
// of the event has.
func free(path string) bool {
	for _, p := range []string{
		".installation.permissions.", ".repository.custom_properties.", ".deployment", ".enterprise",
		".workflow_job.steps[]", ".hook.", ".repository.license", ".organization", ".repository.owner.user_view_type",
		".installation.single_file", ".installation.has_multiple_single_files", ".requester", ".installation.suspended_by.", ".installation.app_slug",
		".repositories[]",
	} {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}

// compare returns how got differs from what the examples have in common, and
// what it has that no example of the event has.
func compare(got shape, same, all []shape) []string {
	var out []string
	common := maps.Clone(same[0])
	known := shape{}
	for _, e := range same {
		maps.DeleteFunc(common, func(p string, _ map[string]bool) bool { return e[p] == nil })
	}
	for _, e := range all {
		for p, kinds := range e {
			if known[p] == nil {
				known[p] = map[string]bool{}
			}
			maps.Copy(known[p], kinds)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(common)) {
		if got[p] == nil && !free(p) {
			out = append(out, "lacks "+p)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(got)) {
		if free(p) {
			continue
		}
		if known[p] == nil {
			out = append(out, "has an unknown "+p)
			continue
		}
		for kind := range got[p] {
			if !known[p][kind] && kind != "null" && !known[p]["null"] {
				out = append(out, fmt.Sprintf("has a %s at %s, want one of %v", kind, p, slices.Sorted(maps.Keys(known[p]))))
			}
		}
	}
	return out
}

func TestPayloadsAreShapedLikeTheExamples(t *testing.T) {
	shapes := examples(t)
	story(t, Config{}, func(t *testing.T, f *fixture) {
		mail := f.receive()
		f.h.Ping()
		in := f.h.AddInstallation(Installation{Account: "octo", Repositories: []string{"one"}})
		f.h.ChangeRepositories(in, []string{"two"}, []string{"one"})
		f.h.Suspend(in, true)
		f.h.Suspend(in, false)
		f.h.Grant(in, Permissions{"metadata": "read"})
		f.h.Uninstall(in)
		waiting := f.h.QueueJob(NewJob{Repo: "acme/app", Labels: []string{"linux"}, Duration: time.Minute, Waiting: true})
		synctest.Wait()
		f.h.Approve(waiting)
		f.guest(f.jit("acme", "one", "linux").Config)
		settle(time.Hour)
		events := map[string]bool{}
		for _, m := range mail.got {
			key := m.header.Get("X-GitHub-Event")
			var all []shape
			for k, list := range shapes {
				if k == key || strings.HasPrefix(k, key+".") {
					all = append(all, list...)
				}
			}
			if m.event.Action != "" {
				key += "." + m.event.Action
			}
			events[key] = true
			same := shapes[key]
			if same == nil {
				same = all
			}
			for _, d := range compare(shapeOf(t, m.body), same, all) {
				t.Errorf("%s: payload %s", key, d)
			}
		}
		for key := range shapes {
			event, _, _ := strings.Cut(key, ".")
			ours := slices.Contains([]string{"workflow_job", "ping", "installation", "installation_repositories"}, event)
			if ours && !events[key] {
				t.Errorf("%s: not sent, so not compared", key)
			}
		}
	})
}

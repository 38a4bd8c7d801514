package proxmox

import (
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

var testKey = fleet.NewSecret("0123456789abcdef0123456789abcdef")

func testManifest() Manifest {
	return Manifest{
		Schema: 1, Name: "dayfly-web-0a1b2c3d4e5f6071", Pool: "web", Scope: "acme", Node: "pve", VMID: 20001,
		Template: fleet.Ref{Family: "ubuntu-24.04", Version: "2.335.1-1"}, Instance: "main",
		Created: time.Date(2026, 11, 25, 18, 0, 0, 0, time.UTC), Configured: true,
	}
}

func TestManifestSurvivesTheDescription(t *testing.T) {
	m := testManifest()
	// Proxmox gives a description back with one trailing newline, and a person
	// may write around the lines.
	for _, description := range []string{m.Sign(testKey), strings.TrimRight(m.Sign(testKey), "\n"), "# note\r\n" + m.Sign(testKey) + "more\n"} {
		got, err := Verify(description, testKey, m.VMID, m.Name)
		if err != nil || got != m {
			t.Errorf("got %+v, %v, want %+v", got, err, m)
		}
	}
	if n := len(m.Sign(testKey)); n > 8192 {
		t.Errorf("description has %d bytes, Proxmox takes 8192", n)
	}
}

func TestManifestOfAnotherContainerDoesNotVerify(t *testing.T) {
	m := testManifest()
	good := m.Sign(testKey)
	newer := m
	newer.Schema = 2
	for name, c := range map[string]struct {
		description string
		key         fleet.Secret
		id          fleet.VMID
		host        string
		want        string
	}{
		"another VMID":    {good, testKey, 20002, m.Name, "manifest is that of VMID 20001"},
		"another name":    {good, testKey, m.VMID, "other", "manifest is that of " + m.Name},
		"another key":     {good, fleet.NewSecret("fedcba9876543210"), m.VMID, m.Name, "not signed by this dayfly"},
		"a changed byte":  {strings.Replace(good, "acme", "acne", 1), testKey, m.VMID, m.Name, "not signed by this dayfly"},
		"a newer schema":  {newer.Sign(testKey), testKey, m.VMID, m.Name, "schema 2, want 1"},
		"none":            {"hello", testKey, m.VMID, m.Name, `no line "dayfly-runner:"`},
		"no signature":    {good[:strings.Index(good, "dayfly-signature:")], testKey, m.VMID, m.Name, `no line "dayfly-signature:"`},
		"two manifests":   {good + good, testKey, m.VMID, m.Name, `2 lines "dayfly-runner:"`},
		"empty signature": {"dayfly-runner:{}\ndayfly-signature:\n", testKey, m.VMID, m.Name, "not signed by this dayfly"},
	} {
		if _, err := Verify(c.description, c.key, c.id, c.host); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

func TestTemplateSaysWhatItIs(t *testing.T) {
	info := TemplateInfo{Schema: 1, Family: "ubuntu-24.04", Version: "2.335.1-1", State: "ready", Runner: "2.335.1",
		BuiltAt: time.Date(2026, 11, 25, 18, 0, 0, 0, time.UTC)}
	got, err := ReadTemplate("# By hand\n" + info.Describe())
	if err != nil || got != info {
		t.Errorf("got %+v, %v, want %+v", got, err, info)
	}
	if got.Ref() != (fleet.Ref{Family: "ubuntu-24.04", Version: "2.335.1-1"}) {
		t.Errorf("got %v, want ubuntu-24.04@2.335.1-1", got.Ref())
	}
	for description, want := range map[string]string{
		"":                           `no line "dayfly:"`,
		"dayfly:{":                   "template manifest: ",
		`dayfly:{"schema":2}`:        "schema 2, want 1",
		`dayfly:{"schema":1}`:        "no family or no version",
		testManifest().Sign(testKey): `no line "dayfly:"`,
	} {
		if _, err := ReadTemplate(description); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", description, err, want)
		}
	}
}

func TestUnfinishedTemplatesAreNotUsed(t *testing.T) {
	for tags, want := range map[string]string{
		"dayfly-state.ready;dayfly-template":       "",
		"dayfly-state.ready dayfly-state.building": "it is being built (tag dayfly-state.building)",
		"dayfly-template":                          "neither its tags nor its manifest say that it is ready",
		"":                                         "neither its tags nor its manifest say that it is ready",
	} {
		if got := unready(splitTags(tags), TemplateInfo{}); got != want {
			t.Errorf("tags %q: got %q, want %q", tags, got, want)
		}
	}
	if got := unready(nil, TemplateInfo{State: "ready"}); got != "" {
		t.Errorf("manifest says ready: got %q, want it to be used", got)
	}
	// Tags are copied to clones, and may be set by hand: the manifest is the truth.
	for _, state := range []string{"building", "smoke", "replaced", "container"} {
		if got, want := unready([]string{ReadyTag}, TemplateInfo{State: state}), `its manifest says that it is "`+state+`"`; got != want {
			t.Errorf("tag ready, manifest %s: got %q, want %q", state, got, want)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(testManifest().Sign(testKey), 20001)
	f.Add("dayfly-runner:{}\ndayfly-signature:x", 1)
	f.Fuzz(func(t *testing.T, description string, id int) {
		m, err := Verify(description, testKey, fleet.VMID(id), testManifest().Name)
		if err == nil && m != testManifest() {
			t.Errorf("a manifest that was never signed verifies: %+v", m)
		}
	})
}

func FuzzReadTemplate(f *testing.F) {
	f.Add(TemplateInfo{Schema: 1, Family: "a", Version: "1"}.Describe())
	f.Fuzz(func(t *testing.T, description string) {
		if i, err := ReadTemplate(description); err == nil && (i.Family == "" || i.Version == "") {
			t.Errorf("a template without family or version: %+v", i)
		}
	})
}

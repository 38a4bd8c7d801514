package proxmox

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

var (
	began   = time.Date(2026, 7, 1, 10, 0, 0, 0, time.UTC)
	builtAt = began.Add(5 * time.Minute)
)

// left puts something there that a build made, in a state.
func (b *bakery) left(id int, state, tag string, change func(*pve.Container)) {
	info := TemplateInfo{Schema: 1, Family: "debian-13", Version: "1", State: state, Build: fmt.Sprint("b", id), Started: began}
	if state == "ready" || state == "replaced" {
		info.BuiltAt = builtAt
	}
	c := pve.Container{VMID: id, ResourcePool: pve.LabTemplates, Storage: pve.LabStorage,
		Config: map[string]string{"hostname": fmt.Sprint("c", id), "tags": TemplateTag + ";" + tag, "description": info.Describe()}}
	if change != nil {
		change(&c)
	}
	if state == "ready" || state == "replaced" {
		b.sim.AddTemplate(pve.Template(c))
		return
	}
	b.sim.AddContainer(c)
}

// found are the VMIDs of what is listed, in its order.
func (b *bakery) found(node string) []fleet.VMID {
	b.t.Helper()
	list, err := b.Remains(b.t.Context(), node)
	b.ok(err)
	var ids []fleet.VMID
	for _, r := range list {
		ids = append(ids, r.VMID)
	}
	return ids
}

func TestRemainsAreWhatNobodyUses(t *testing.T) {
	b := newBakery(t, pve.Config{})
	b.left(200, "ready", ReadyTag, nil)
	b.left(201, "replaced", "dayfly-state.replaced", nil)
	b.left(202, "building", BuildingTag, nil)
	b.left(203, "smoke", BuildingTag, nil)
	b.left(204, "container", BuildingTag, nil) // asked for
	b.left(205, "building", "", nil)           // a datacenter that reserves tags
	b.left(206, "", BuildingTag, func(c *pve.Container) { c.Config["description"] = "hello" })
	b.left(207, "building", BuildingTag, func(c *pve.Container) { c.Config["lock"] = "create" })
	b.sim.AddContainer(pve.Container{VMID: 208, ResourcePool: pve.LabTemplates, Storage: pve.LabStorage, Config: map[string]string{"tags": "web"}})
	b.sim.AddContainer(pve.Container{VMID: 209, Storage: pve.LabStorage, Config: map[string]string{"tags": BuildingTag}}) // not for this token
	want := []fleet.VMID{207, 206, 205, 203, 202, 201}
	if got := b.found("pve"); !cmp.Equal(got, want) {
		t.Errorf("remains are %v, want %v: clones before what they may be clones of", got, want)
	}
}

func TestRemainsSayWhatTheyAre(t *testing.T) {
	b := newBakery(t, pve.Config{})
	b.left(201, "replaced", "dayfly-state.replaced", nil)
	b.left(202, "building", BuildingTag, func(c *pve.Container) { c.Config["lock"] = "create" })
	b.left(203, "", BuildingTag, func(c *pve.Container) { c.Config["description"] = "dayfly:{\"schema\":1" })
	list, err := b.Remains(t.Context(), "pve")
	b.ok(err)
	info := func(id, state string, built time.Time) TemplateInfo {
		return TemplateInfo{Schema: 1, Family: "debian-13", Version: "1", State: state, Build: "b" + id, Started: began, BuiltAt: built}
	}
	want := []Remains{
		{Node: "pve", VMID: 203, Name: "c203", Unreadable: "template manifest: unexpected end of JSON input"},
		{Node: "pve", VMID: 202, Name: "c202", Lock: "create", Info: info("202", "building", time.Time{})},
		{Node: "pve", VMID: 201, Name: "c201", Template: true, Info: info("201", "replaced", builtAt)},
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("remains differ (-want +got):\n%s", diff)
	}
	for i, want := range []time.Time{{}, began, builtAt} {
		if got := list[i].Began(); !got.Equal(want) {
			t.Errorf("%d began at %s, want %s", list[i].VMID, got, want)
		}
	}
}

func TestRemainsOfEachNode(t *testing.T) {
	b := newBakery(t, pve.Config{Nodes: []string{"pve", "two"}})
	b.left(201, "building", BuildingTag, nil)
	b.left(202, "building", BuildingTag, func(c *pve.Container) { c.Node = "two" })
	for node, want := range map[string][]fleet.VMID{"pve": {201}, "two": {202}} {
		if got := b.found(node); !cmp.Equal(got, want) {
			t.Errorf("remains of node %s are %v, want %v", node, got, want)
		}
	}
	b.sim.StopNode("two")
	if _, err := b.Remains(t.Context(), "two"); !errors.Is(err, fleet.ErrUnavailable) {
		t.Errorf("remains of a node that is off: %v, want it unavailable", err)
	}
}

func TestRemoveTakesOnlyWhatWasListed(t *testing.T) {
	b := newBakery(t, pve.Config{})
	b.left(201, "building", BuildingTag, func(c *pve.Container) { c.Running = true })
	b.left(202, "building", BuildingTag, func(c *pve.Container) { c.Config["protection"] = "1" })
	b.left(203, "building", BuildingTag, nil)
	b.left(204, "building", BuildingTag, nil)
	b.left(205, "replaced", "dayfly-state.replaced", nil)
	list, err := b.Remains(t.Context(), "pve")
	b.ok(err)
	done := TemplateInfo{Schema: 1, Family: "debian-13", Version: "1", State: "ready", Build: "b203"}
	b.sim.SetOption(203, "description", done.Describe()) // its build came to its end
	another := TemplateInfo{Schema: 1, Family: "debian-13", Version: "2", State: "building", Build: "another"}
	b.sim.SetOption(204, "description", another.Describe()) // its VMID is used again
	for _, r := range list {
		err := b.Remove(t.Context(), r)
		_, there := b.sim.Container(int(r.VMID))
		switch keep := r.VMID == 203 || r.VMID == 204; {
		case keep && (!there || !errors.Is(err, fleet.ErrInvalid)):
			t.Errorf("remove %d, which has become another's: %v, still there: %v", r.VMID, err, there)
		case !keep && (there || err != nil):
			t.Errorf("remove %d: %v, still there: %v", r.VMID, err, there)
		}
	}
	for _, r := range list {
		if r.VMID == 201 {
			b.ok(b.Remove(t.Context(), r)) // gone by now
		}
	}
}

// vanishing is a Proxmox where somebody else removes a container right before
// its configuration is read.
type vanishing struct {
	http.RoundTripper
	sim *pve.Cluster
}

// RoundTrip implements http.RoundTripper.
func (v vanishing) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/lxc/201/config") {
		v.sim.Remove(201)
	}
	return v.RoundTripper.RoundTrip(r)
}

func TestRemainsThatVanishWhileTheyAreListed(t *testing.T) {
	b := newBakery(t, pve.Config{})
	b.left(201, "building", BuildingTag, nil)
	b.left(202, "building", BuildingTag, nil)
	b.Builder.c.http.Transport = vanishing{b.Builder.c.http.Transport, b.sim}
	if got, want := b.found("pve"), []fleet.VMID{202}; !cmp.Equal(got, want) {
		t.Errorf("remains are %v, want %v", got, want)
	}
}

package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// Who may write to the resource pool of templates is trusted, and yet a
// template can be changed by hand. What one said when it was first seen is kept
// in the journal; dayfly has no right to mend one, so one that says something
// else of the same build is told and not used.

// birth is what a template said of itself when it was first seen.
type birth struct {
	Ref    fleet.Ref `json:"ref"`
	Build  string    `json:"build"`
	Runner string    `json:"runner"`
}

// templatesKey is where the births are kept, by node and VMID.
const templatesKey = "templates"

func templateOn(node string, id fleet.VMID) string { return fmt.Sprintf("%s/%d", node, id) }

// rememberTemplates loads what the templates said.
func (d *Daemon) rememberTemplates(ctx context.Context) error {
	text, ok, err := d.cfg.Journal.Get(ctx, templatesKey)
	if err == nil && ok {
		err = json.Unmarshal(text, &d.state.born)
	}
	if err != nil {
		return fmt.Errorf("read templates from the journal: %w", err)
	}
	return nil
}

// vet returns the templates of a listing that may be used, and tells of the
// others, as far as they were usable before or contradict themselves.
func (d *Daemon) vet(s *state, list proxmox.Listing) []fleet.Template {
	var good []fleet.Template
	there := map[string]bool{}
	changed := false
	rivals := s.rivals(list)
	for _, t := range list.Templates {
		key := templateOn(list.Node, t.VMID)
		there[key] = true
		was, known := s.born[key]
		is := birth{t.Ref, t.Build, t.Runner}
		if o, is := rivals[t.VMID]; is {
			d.trouble(strayed+key, fmt.Sprintf("template %d on %s says that it is %s, which template %d is, of another build: it is not used", t.VMID, list.Node, t.Ref, o),
				"give each build a version of its own, or remove one of the two")
			continue
		}
		if !known || is.Build != was.Build || is.Build == "" {
			changed = changed || is != was
			s.born[key], was = is, is // made anew on the same VMID
		}
		d.strayed(list, t.VMID, was, is)
		if was == is {
			good = append(good, t)
		}
	}
	for _, u := range list.Unusable {
		key := templateOn(list.Node, u.VMID)
		there[key] = true
		if was, known := s.born[key]; known {
			d.spoilt(list, u, was)
		}
	}
	for key := range s.born {
		if node, _, _ := strings.Cut(key, "/"); node == list.Node && !there[key] {
			delete(s.born, key)
			changed = true
		}
	}
	d.bury(s, list.Node, there)
	if changed {
		text, err := json.Marshal(s.born)
		if err != nil { // texts alone
			panic(err)
		}
		d.later.Put(templatesKey, text)
	}
	return good
}

// strayed begins the troubles of templates that are not as they were made.
const strayed = "strayed template "

// strayed tells of a template that says something else than when it was first
// seen, or whose tags do.
func (d *Daemon) strayed(list proxmox.Listing, id fleet.VMID, was, is birth) {
	key := strayed + templateOn(list.Node, id)
	switch {
	case was.Ref != is.Ref:
		d.trouble(key, fmt.Sprintf("template %d on %s says that it is %s and was made as %s: it is not used", id, list.Node, is.Ref, was.Ref),
			"undo the change of its description, or build a template of that version")
	case was.Runner != is.Runner:
		d.trouble(key, fmt.Sprintf("template %d (%s) on %s says that its runner is %s and was made with %s: it is not used", id, was.Ref, list.Node, is.Runner, was.Runner),
			"undo the change of its description, or build a newer version")
	case list.Mistagged[id] != "":
		d.trouble(key, fmt.Sprintf("template %d (%s) on %s: %s", id, is.Ref, list.Node, list.Mistagged[id]), "undo the change of its tags; what counts is its description")
	default:
		d.fine(key)
	}
}

// spoilt tells of a template that could be used and cannot be any more, unless
// a build of ours says so: it replaces a template, for example.
func (d *Daemon) spoilt(list proxmox.Listing, u proxmox.Foreign, was birth) {
	key := strayed + templateOn(list.Node, u.VMID)
	if info, ok := list.Info[u.VMID]; ok && info.State != "ready" && info.State != "" {
		d.fine(key)
		return
	}
	d.trouble(key, fmt.Sprintf("template %d on %s was made as %s and cannot be used any more: %s", u.VMID, list.Node, was.Ref, u.Why),
		"undo the change of its description or tags, or build it anew")
}

// rivals finds the new templates that claim to be another build's, and the
// template that is of it. Of two that are both new, the core uses neither.
func (s *state) rivals(list proxmox.Listing) map[fleet.VMID]fleet.VMID {
	found := map[fleet.VMID]fleet.VMID{}
	for _, t := range list.Templates {
		if o := s.rival(list, t); o != 0 {
			found[t.VMID] = o
		}
	}
	return found
}

// rival is the template that a new one of a listing claims to be: what is known
// already stays in use, for nobody has tried the other build. Copies are of the
// build that they are made from; 0: there is none.
func (s *state) rival(list proxmox.Listing, t fleet.Template) fleet.VMID {
	if was, known := s.born[templateOn(list.Node, t.VMID)]; known && was.Build == t.Build || t.Build == "" || t.Copy {
		return 0
	}
	for _, o := range list.Templates {
		was, known := s.born[templateOn(list.Node, o.VMID)]
		if known && o.VMID != t.VMID && !o.Copy && was == (birth{t.Ref, o.Build, o.Runner}) && o.Ref == t.Ref && o.Build != t.Build && o.Build != "" {
			return o.VMID
		}
	}
	return 0
}

// bury ends the troubles with the templates of a node that are gone.
func (d *Daemon) bury(s *state, node string, there map[string]bool) {
	for key := range s.troubles {
		if name, is := strings.CutPrefix(key, strayed); is && strings.HasPrefix(name, node+"/") && !there[name] {
			d.fine(key)
		}
	}
}

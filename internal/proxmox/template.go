package proxmox

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Tags of templates. Tags are the index that people see; the description's
// JSON line is the truth.
const (
	TemplateTag = "dayfly-template"
	ReadyTag    = "dayfly-state.ready"    // set last, when the template is finished
	BuildingTag = "dayfly-state.building" // set first; such a template is never used
	FamilyTag   = "fam."                  // and the family; a tag knows no "@"
	VersionTag  = "ver."                  // and the version
)

const (
	templateSchema = 1
	templateLine   = "dayfly:"
)

// TemplateInfo is what a template says of itself, in the line "dayfly:{json}"
// of its description. It carries no signature: who may write to the resource
// pool of templates is trusted.
type TemplateInfo struct {
	Schema        int       `json:"schema"`
	Family        string    `json:"family"`
	Version       string    `json:"version"`
	State         string    `json:"state,omitempty"`  // "ready" when finished; "building", "smoke" and "replaced" are never used
	Runner        string    `json:"runner,omitempty"` // version of actions/runner, "2.335.1"
	RunnerSHA256  string    `json:"runner_sha256,omitempty"`
	OS            string    `json:"os,omitempty"`
	Docker        string    `json:"docker,omitempty"`
	StorageDriver string    `json:"storage_driver,omitempty"`
	Contract      string    `json:"contract,omitempty"`     // of its guest, see GuestContract
	StorageType   string    `json:"storage_type,omitempty"` // Proxmox's type of storage, "zfspool"
	Features      string    `json:"features,omitempty"`     // of the container, "nesting=1"
	Source        string    `json:"source,omitempty"`       // base image or template it was made from
	Commit        string    `json:"commit,omitempty"`
	Build         string    `json:"build,omitempty"`   // which build made it: its own id
	Run           string    `json:"run,omitempty"`     // Packer's run, of which a build is a part
	By            string    `json:"by,omitempty"`      // the process that builds it, while it does
	Started       time.Time `json:"started,omitzero"`  // when the build began
	Replica       int       `json:"replica,omitempty"` // 0 is the first; its copies count from 1
	BuiltAt       time.Time `json:"built_at,omitzero"`
	Smoke         string    `json:"smoke,omitempty"` // result of the smoke test
}

// Ref is the template's family and version.
func (i TemplateInfo) Ref() fleet.Ref { return fleet.Ref{Family: i.Family, Version: i.Version} }

// GuestContract is the version of what a template's guest and dayfly expect of
// each other: where the JIT config appears, and what is left where by whom. The
// provisioner writes it down (scripts/guest/base.sh). A guest of contract 1
// differs in one thing only, and is good for all pools that do not need it: it
// takes no variables of the pool out of the environment of its init.
const (
	GuestContract = 2
	withoutEnv    = 1
)

// Foreign says why a guest must not be used because of its contract; empty: it
// may be. One that says nothing is served: whoever bakes without the
// dayfly-runner provisioner promises nothing, and may keep to it all the same.
func (i TemplateInfo) Foreign() string {
	n, err := strconv.Atoi(i.Contract)
	switch {
	case i.Contract == "" || err == nil && (n == GuestContract || n == withoutEnv):
		return ""
	case err == nil && n > GuestContract:
		return fmt.Sprintf("its guest keeps contract %d, which this dayfly does not know: it is older than the plugin that baked it", n)
	}
	return fmt.Sprintf("its guest keeps contract %.16q, this dayfly %d: it was baked by an older plugin", i.Contract, GuestContract)
}

// noEnv reports whether the guest takes no variables of a pool.
func (i TemplateInfo) noEnv() bool { return i.Contract == strconv.Itoa(withoutEnv) }

// Describe returns the description that carries i.
func (i TemplateInfo) Describe() string {
	line, err := json.Marshal(i)
	if err != nil { // a time beyond year 9999
		panic(err)
	}
	return fmt.Sprintf("Template %s, made by dayfly.\n\n%s%s\n", i.Ref(), templateLine, line)
}

// ReadTemplate reads the line that Describe wrote.
func ReadTemplate(description string) (TemplateInfo, error) {
	line, err := fleet.OnlyLine(description, templateLine)
	if err != nil {
		return TemplateInfo{}, err
	}
	var i TemplateInfo
	if err := json.Unmarshal([]byte(line), &i); err != nil {
		return TemplateInfo{}, fmt.Errorf("template manifest: %w", err)
	}
	switch {
	case i.Schema != templateSchema:
		return TemplateInfo{}, fmt.Errorf("template manifest has schema %d, want %d", i.Schema, templateSchema)
	case i.Family == "" || i.Version == "":
		return TemplateInfo{}, errors.New("template manifest names no family or no version")
	}
	return i, nil
}

// splitTags reads Proxmox's list of tags, whose separator is configurable.
func splitTags(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ';' || r == ',' || r == ' ' })
}

// mistagged says which tag names another family or version than the manifest,
// or nothing. Proxmox may keep tags in lower case, and tokens from setting any.
func mistagged(tags []string, info TemplateInfo) string {
	for _, t := range tags {
		for _, claim := range [][2]string{{FamilyTag, info.Family}, {VersionTag, info.Version}} {
			if said, ok := strings.CutPrefix(t, claim[0]); ok && !strings.EqualFold(said, claim[1]) {
				return fmt.Sprintf("its tag %s is not of %s", t, info.Ref())
			}
		}
	}
	return ""
}

// unready says why a template must not be used, or nothing. The manifest is the
// truth: a tag is copied to clones, and may be set by hand. A manifest that says
// it is ready is enough: a datacenter may keep tokens from setting tags.
func unready(tags []string, info TemplateInfo) string {
	switch {
	case slices.Contains(tags, BuildingTag):
		return "it is being built (tag " + BuildingTag + ")"
	case info.State != "" && info.State != "ready":
		return fmt.Sprintf("its manifest says that it is %q", info.State)
	case !slices.Contains(tags, ReadyTag) && info.State != "ready":
		return "neither its tags nor its manifest say that it is ready"
	}
	return ""
}

package pools

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

const edited = `# kept
dayfly {
  schema = 1
}

# the pinned one
template "pinned" {
  family  = "ubuntu-24.04" # of the builder
  version = "2.335.1-1"    # by commit only
}

template "newest" {
  family = "ubuntu-24.04"
}

template "other" {
  family  = "debian-13"
  version = "1"
}

defaults {
  template = template.newest
  github {
    org = "acme"
  }
  scale {
    max = 1
  }
}

pool "a" {
  labels   = ["a"]
  template = template.pinned
}

pool "b" {
  labels = ["b"]
}

pool "c" {
  labels   = ["c"]
  template = template.other
}
`

func promote(t *testing.T, src string, p Promotion) (Edited, error) {
	t.Helper()
	if p.Ref.Version == "" {
		p.Ref.Version = "2.340.0-1"
	}
	p.Ref.Family = "ubuntu-24.04"
	return Promote(map[string][]byte{"pools.hcl": []byte(src)}, p)
}

func TestPromotionChangesTheVersionAlone(t *testing.T) {
	for name, c := range map[string]struct {
		promotion Promotion
		from, to  string
		templates []string
		pools     []string
	}{
		"by family":   {Promotion{}, `"2.335.1-1"`, `"2.340.0-1"`, []string{"pinned"}, []string{"a"}},
		"by template": {Promotion{Templates: []string{"pinned"}}, `"2.335.1-1"`, `"2.340.0-1"`, []string{"pinned"}, []string{"a"}},
		"by pool":     {Promotion{Pools: []string{"a"}}, `"2.335.1-1"`, `"2.340.0-1"`, []string{"pinned"}, []string{"a"}},
		"pins on request": {Promotion{Pools: []string{"b"}}, "\"newest\" {\n  family = \"ubuntu-24.04\"\n",
			"\"newest\" {\n  family  = \"ubuntu-24.04\"\n  version = \"2.340.0-1\"\n", []string{"newest"}, []string{"b"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := promote(t, edited, c.promotion)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Replace(edited, c.from, c.to, 1)
			if diff := cmp.Diff(want, string(got.Files["pools.hcl"])); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if diff := cmp.Diff([][]string{c.templates, c.pools}, [][]string{got.Templates, got.Pools}); diff != "" {
				t.Errorf("edited (-want +got)\n%s", diff)
			}
		})
	}
}

func TestPromotionOfWhatIsThereChangesNothing(t *testing.T) {
	for _, p := range []Promotion{{}, {Templates: []string{"pinned"}}, {Pools: []string{"a"}}} {
		p.Ref.Version = "2.335.1-1"
		got, err := promote(t, edited, p)
		if err != nil || len(got.Files) != 0 {
			t.Errorf("%+v: got %d files and %v, want none", p, len(got.Files), err)
		}
	}
	follows := strings.Replace(edited, "  version = \"2.335.1-1\"    # by commit only\n", "", 1)
	got, err := promote(t, follows, Promotion{})
	if err != nil || len(got.Files) != 0 || len(got.Follows) != 2 {
		t.Errorf("got %+v and %v, want no change and two blocks that follow the newest", got, err)
	}
	bounded := strings.Replace(edited, `version = "2.335.1-1"    #`, `version = ">= 2, < 2.340" #`, 1)
	got, err = promote(t, bounded, Promotion{})
	if err != nil || len(got.Files) != 0 || len(got.Follows) != 1 || !slices.Equal(got.Excludes, []string{"pinned (>= 2, < 2.340)"}) {
		t.Errorf("got %+v and %v, want no change and one block whose constraint leaves the version out", got, err)
	}
}

func TestLayoutOfOneOwnStays(t *testing.T) {
	src := strings.Replace(edited, `version = "2.335.1-1"    #`, `version="2.335.1-1"  #`, 1)
	got, err := promote(t, src, Promotion{})
	if err != nil {
		t.Fatal(err)
	}
	before, after := strings.Split(src, "\n"), strings.Split(string(got.Files["pools.hcl"]), "\n")
	var changed []string
	for i := range before {
		if before[i] != after[i] {
			changed = append(changed, after[i])
		}
	}
	if len(changed) != 1 || !strings.Contains(changed[0], `"2.340.0-1"`) || !strings.Contains(changed[0], "# by commit only") {
		t.Errorf("changed lines: %q, want the version's alone, with its comment", changed)
	}
}

func TestPromotionsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		src       string
		promotion Promotion
		kind      error
		want      string
	}{
		"unknown pool":     {edited, Promotion{Pools: []string{"aa"}}, fleet.ErrNotFound, `pool "aa": there is none in the pool files`},
		"unknown template": {edited, Promotion{Templates: []string{"pinnd"}}, fleet.ErrNotFound, `Did you mean`},
		"other family":     {edited, Promotion{Pools: []string{"c"}}, fleet.ErrInvalid, `template "other" is of the family debian-13`},
		"no such family":   {strings.ReplaceAll(edited, "ubuntu-24.04", "x"), Promotion{}, fleet.ErrNotFound, "no template block is of the family ubuntu-24.04"},
		"computed": {strings.Replace(edited, `"2.335.1-1"`, `format("%s", "2.335.1-1")`, 1), Promotion{}, fleet.ErrInvalid,
			`template "pinned" computes its version`},
		"bad version": {edited, Promotion{Ref: fleet.Ref{Version: "a b"}}, fleet.ErrInvalid, "is no version of a template"},
		"invalid":     {edited + "pool {", Promotion{}, fleet.ErrInvalid, "pools.hcl"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := promote(t, c.src, c.promotion)
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v and %v, want %v: %q", got.Templates, err, c.kind, c.want)
			}
		})
	}
}

func FuzzPromote(f *testing.F) {
	f.Add(edited, "2.340.0-1")
	f.Add(edited, `"`)
	f.Fuzz(func(t *testing.T, src, version string) {
		got, err := Promote(map[string][]byte{"a.hcl": []byte(src)}, Promotion{Ref: fleet.Ref{Family: "ubuntu-24.04", Version: version}})
		if err != nil {
			return
		}
		files := map[string][]byte{"a.hcl": []byte(src)}
		if out, ok := got.Files["a.hcl"]; ok {
			files["a.hcl"] = out
		}
		again, err := Promote(files, Promotion{Ref: fleet.Ref{Family: "ubuntu-24.04", Version: version}})
		if err != nil || len(again.Files) != 0 {
			t.Errorf("the second promotion changes %v, %v", again.Templates, err)
		}
	})
}

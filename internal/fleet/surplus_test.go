package fleet

import (
	"slices"
	"testing"
)

// TestSurplusNeverNamesWhatMayBeWanted: neither a version in use, nor one kept,
// pinned, or with a container of it.
func TestSurplusNeverNamesWhatMayBeWanted(t *testing.T) {
	of := func(v string) Ref { return Ref{"ubuntu", v} }
	want := Desired{Pools: []Pool{
		{Name: "a", Template: Ref{Family: "ubuntu"}, Keep: 2},
		{Name: "pinned", Template: of("2"), Keep: 1},
		{Name: "keeper", Template: Ref{Family: "ubuntu"}, Keep: 2},
	}}
	have := Observed{
		Rollouts: []Rollout{{Pool: "a", Stable: of("8"), Candidate: of("9")}, {Pool: "pinned", Stable: of("2")}, {Pool: "keeper", Stable: of("6")}},
		Runners:  []Runner{{Name: "r", Template: of("3"), Container: Stopped}, {Name: "gone", Template: of("4")}},
	}
	for i, v := range []string{"9", "8", "7", "6", "5", "4", "3", "2", "1", "0"} {
		have.Templates = append(have.Templates, Template{Ref: of(v), Node: "n1", VMID: VMID(9000 + i)})
	}
	got := Surplus(want, have)
	var versions []string
	for _, s := range got["a"] {
		versions = append(versions, s.Version)
	}
	// 7 and 6 are kept by a, 5 and 4 by keeper, 1 by pinned.
	if want := []string{"0"}; !slices.Equal(versions, want) || len(got["keeper"]) != 1 || len(got["pinned"]) != 1 {
		t.Errorf("got %v of %v, want %v, of each pool", versions, got, want)
	}
}

func TestConstraints(t *testing.T) {
	for _, c := range []struct {
		text, version string
		want          bool
	}{
		{"~> 2.335", "2.335.1-1", true}, {"~> 2.335", "2.336.0-1", true}, {"~> 2.335", "3.0.0-1", false}, {"~> 2.335", "2.334.9-1", false},
		{"~> 2.335.1", "2.335.2-1", true}, {"~> 2.335.1", "2.336.0-1", false}, {"~> 2.335.1-3", "2.335.1-2", false}, {"~> 2.335.1-3", "2.335.9-1", true},
		{">= 2.335, < 3", "2.999", true}, {">= 2.335, < 3", "3", false}, {"!= 2.336.1-1", "2.336.1-1", false}, {"!= 2.336.1-1", "2.336.1-2", true},
		{"= 1", "1", true}, {"= 1", "1.0", false}, {"> 1", "1", false}, {"> 1", "1.1", true}, {"<= 1", "1", true}, {"<= 1", "1.1", false},
	} {
		parsed, err := ParseConstraint(c.text)
		if err != nil || parsed.Allows(c.version) != c.want {
			t.Errorf("%q allows %q: %t, %v; want %t", c.text, c.version, parsed.Allows(c.version), err, c.want)
		}
		again, err := ParseConstraint(parsed.String())
		if err != nil || !slices.Equal(again, parsed) {
			t.Errorf("%q is written %q, which reads as %v, %v", c.text, parsed, again, err)
		}
	}
	for _, text := range []string{"", "1", "~> 1", ">", ">= ", "~> x.y", ">= 1 2", ">= 1,", "=> 1"} {
		if c, err := ParseConstraint(text); err == nil {
			t.Errorf("%q is read as %v", text, c)
		}
	}
}

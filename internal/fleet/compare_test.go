package fleet

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCompare(t *testing.T) {
	a := Pool{Name: "a", Max: 4, Labels: []string{"linux", "x64"}, Template: Ref{Family: "ubuntu"}}
	b, c := a, a
	b.Name, c.Name = "b", "c"
	changed := a
	changed.Max, changed.Size.Cores, changed.Template.Version = 5, 2, "2"
	changed.Labels = []string{"x64", "linux"} // the order is nothing
	got := Compare(Desired{Pools: []Pool{c, a}}, Desired{Pools: []Pool{b, changed}})
	want := []Change{
		{Pool: "a", Fields: []Field{
			{"template", "ubuntu newest", "ubuntu 2", ByRoll},
			{"max", "4", "5", AtOnce},
			{"size.cores", "as in the template", "2", NewClones},
		}},
		{Pool: "b", Added: true},
		{Pool: "c", Removed: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestCompareOverlooksNothing changes each field of a pool, down to the last.
func TestCompareOverlooksNothing(t *testing.T) {
	var walk func(path string, v reflect.Value, root *Pool)
	walk = func(path string, v reflect.Value, root *Pool) {
		switch {
		case v.Type() == reflect.TypeFor[Constraint]():
			c, err := ParseConstraint("> 1")
			if err != nil {
				t.Fatal(err)
			}
			v.Set(reflect.ValueOf(c))
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				fresh := Pool{Name: "a"}
				walk(path+"."+v.Type().Field(i).Name, field(reflect.ValueOf(&fresh).Elem(), path, i), &fresh)
			}
			return
		case v.Kind() == reflect.String:
			v.SetString("x")
		case v.Kind() == reflect.Bool:
			v.SetBool(true)
		case v.CanInt():
			v.SetInt(int64(time.Second))
		case v.Kind() == reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			if v.Index(0).Kind() == reflect.String {
				v.Index(0).SetString("x")
			}
		case v.Kind() == reflect.Map:
			v.Set(reflect.ValueOf(Env{"A": "x"}))
		default:
			t.Fatalf("%s is of a new kind", path)
		}
		if len(Compare(Desired{Pools: []Pool{{Name: "a"}}}, Desired{Pools: []Pool{*root}})) != 1 {
			t.Errorf("%s changes, and nothing is said of it", path)
		}
	}
	for i := range reflect.TypeFor[Pool]().NumField() {
		if f := reflect.TypeFor[Pool]().Field(i); f.Name != "Name" {
			fresh := Pool{Name: "a"}
			walk(f.Name, reflect.ValueOf(&fresh).Elem().Field(i), &fresh)
		}
	}
}

// field finds field i of the struct that path names.
func field(v reflect.Value, path string, i int) reflect.Value {
	for name := range strings.SplitSeq(path, ".") {
		v = v.FieldByName(name)
	}
	return v.Field(i)
}

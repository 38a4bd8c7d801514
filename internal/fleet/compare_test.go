package fleet

import (
	"reflect"
	"slices"
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
		{Name: "a", Fields: []Field{
			{"template", "ubuntu newest", "ubuntu 2", ByRoll},
			{"max", "4", "5", AtOnce},
			{"size.cores", "as in the template", "2", NewClones},
		}},
		{Name: "b", Added: true},
		{Name: "c", Removed: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestCompareOverlooksNothing changes each field of a pool, of a template block
// and of the limits, down to the last.
func TestCompareOverlooksNothing(t *testing.T) {
	overlooks(t, Pool{Name: "a"}, func(was, is Pool) int {
		return len(Compare(Desired{Pools: []Pool{was}}, Desired{Pools: []Pool{is}}))
	})
	overlooks(t, TemplateBlock{Name: "a"}, func(was, is TemplateBlock) int {
		return len(CompareTemplates(Desired{Templates: []TemplateBlock{was}}, Desired{Templates: []TemplateBlock{is}}))
	}, "Pools")
	overlooks(t, Limits{}, func(was, is Limits) int { return len(CompareLimits(was, is)) })
	overlooks(t, Window{}, func(was, is Window) int { return differ(was.words(), is.words()) })
	overlooks(t, Schedule{}, func(was, is Schedule) int { return differ(was.words(), is.words()) })
	overlooks(t, Canary{}, func(was, is Canary) int { return differ(was.words(), is.words()) })
}

func differ(was, is string) int {
	if was == is {
		return 0
	}
	return 1
}

// overlooks reports each field of T, but for Name and others, whose change is
// not one change.
func overlooks[T any](t *testing.T, blank T, changes func(was, is T) int, others ...string) {
	t.Helper()
	var walk func(path string, find func(*T) reflect.Value)
	walk = func(path string, find func(*T) reflect.Value) {
		changed := blank
		v := find(&changed)
		switch {
		case v.Type() == reflect.TypeFor[Constraint]():
			c, err := ParseConstraint("> 1")
			if err != nil {
				t.Fatal(err)
			}
			v.Set(reflect.ValueOf(c))
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				walk(path+"."+v.Type().Field(i).Name, func(root *T) reflect.Value { return find(root).Field(i) })
			}
			return
		default:
			alter(t, path, v)
		}
		if n := changes(blank, changed); n != 1 {
			t.Errorf("%T: %s changes, and it is told as %d changes", blank, path, n)
		}
	}
	for i := range reflect.TypeFor[T]().NumField() {
		if name := reflect.TypeFor[T]().Field(i).Name; name != "Name" && !slices.Contains(others, name) {
			walk(name, func(root *T) reflect.Value { return reflect.ValueOf(root).Elem().Field(i) })
		}
	}
}

// alter makes a zero value another one.
func alter(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	switch {
	case v.Kind() == reflect.String:
		v.SetString("x")
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanInt() && v.Type() != reflect.TypeFor[time.Duration]():
		v.SetInt(7)
	case v.CanInt():
		v.SetInt(int64(time.Minute))
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		if v.Index(0).Kind() == reflect.String {
			v.Index(0).SetString("x")
		}
	case v.Kind() == reflect.Array:
		v.Index(1).SetBool(true)
	case v.Kind() == reflect.Map:
		v.Set(reflect.ValueOf(Env{"A": "x"}))
	case v.Type() == reflect.TypeFor[*time.Location]():
		v.Set(reflect.ValueOf(time.FixedZone("there", 3600)))
	default:
		t.Fatalf("%s is of a new kind", path)
	}
}

// TestChangesAreToldInTheWordsOfTheFiles: people read them at a pull request.
func TestChangesAreToldInTheWordsOfTheFiles(t *testing.T) {
	was := Pool{Name: "a", Roll: Rolling{Bake: 24 * time.Hour, Canary: []Canary{{Jobs: 5, AtOnce: 1}, {Jobs: 20, Percent: 25}}}}
	is := Pool{Name: "a", Reserve: Room{MemoryMiB: 512}, Roll: Rolling{Bake: 90 * time.Second, Pause: true, Windows: []Window{
		{Days: [7]bool{1: true, 2: true}, From: 9*time.Hour + 5*time.Minute, For: 7 * time.Hour},
	}}, Schedules: []Schedule{{Window: Window{Days: [7]bool{5: true}, For: 10 * time.Minute, Zone: time.FixedZone("there", 0)}, Warm: 3}}}
	var got []string
	for _, c := range Compare(Desired{Pools: []Pool{was}}, Desired{Pools: []Pool{is}}) {
		for _, f := range c.Fields {
			got = append(got, f.Name+": "+f.From+" -> "+f.To)
		}
	}
	want := []string{
		"schedule:  -> fri 00:00 there for 10m: 3 warm",
		"reserve.memory: 0 MiB -> 512 MiB",
		"rollout.canary: 5 jobs, 1 at a time; 20 jobs, 25% of all -> ",
		"rollout.bake: 24h -> 1m30s",
		"rollout.on_failure: rollback -> pause",
		"rollout.window:  -> mon tue 09:05 UTC for 7h",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, want := was.Roll.Steps(), "canary: 5 jobs, 1 at a time; canary: 20 jobs, 25% of all; all; bake for 24h"; got != want {
		t.Errorf("a roll-out goes %q, want %q", got, want)
	}
	limits := CompareLimits(Limits{NodeTasks: 8}, Limits{Max: 4, NodeTasks: 12})
	if diff := cmp.Diff([]Field{{"max", "no limit", "4", AtOnce}, {"node_tasks", "8", "12", AtOnce}}, limits); diff != "" {
		t.Errorf("limits, -want +got:\n%s", diff)
	}
}

package fleet

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestRandomWorldsReachEveryRule: a property says nothing of what its worlds
// never meet. Each reason there is must come up, and each refusal.
func TestRandomWorldsReachEveryRule(t *testing.T) {
	t.Parallel()
	missing := map[string]bool{}
	for _, words := range []string{
		"is queued", "spare 1 of", "makes room for", "is gone", "is drained", "not cloned within", "registered before its launch",
		"after its start", "not started", "after its launch", "GitHub removed its registration", "registered with", "offline at GitHub",
		"no job taken in", "no job within", "its job ran longer", "its container is gone", "it has not powered off", "its job is over",
		"a registration without a container", "a spare of", "one spare too many",
		"is full", "all pools together", "is full on node", "is offline", "clones nothing", "launches nothing", "one clone at a time",
		"as many tasks at work", "storage", "no template", "no pool has all", "no pool registers", "a place is about to become free",
		"being launched", "being cloned", "is launching or listening",
		"warm 1 of", "warm for", "one warm container too many", "a warm container of", "warm, but the root half on", "is given to it",
		"a warm container is there for it", "a warm container boots",
	} {
		missing[words] = true
	}
	meet := func(text string) {
		for words := range missing {
			if strings.Contains(text, words) {
				delete(missing, words)
			}
		}
	}
	for seed := uint64(0); len(missing) > 0 && seed < 200000; seed++ {
		r := rand.New(rand.NewPCG(seed, 1))
		d := dice(func(_ string, n int) int { return r.IntN(n) })
		want, have := d.desired(), d.observed()
		actions, _ := Plan(want, have, noon)
		for _, a := range actions {
			meet(a.Reason)
		}
		_, texts := told(want, have, noon)
		for _, text := range texts {
			meet(text)
		}
	}
	for words := range missing {
		t.Errorf("no world has an action or an explanation with %q", words)
	}
}

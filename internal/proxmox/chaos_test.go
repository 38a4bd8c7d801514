package proxmox

import (
	"context"
	"errors"
	"flag"
	"math/rand"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

var worlds = flag.Int("worlds", 40, "random worlds to run")

// trouble decides about one request in five. Only changes come late: their
// answer is lost at once and their effect happens seconds later.
func (w *world) trouble(rng *rand.Rand) func(*http.Request) stage.Fault {
	var mu sync.Mutex
	return func(r *http.Request) stage.Fault {
		mu.Lock()
		defer mu.Unlock()
		if rng.Intn(5) != 0 {
			return stage.Fault{}
		}
		switch rng.Intn(7) {
		case 0:
			return stage.Fault{Lose: true}
		case 1:
			return stage.Fault{Refuse: true}
		case 2:
			return stage.Fault{Code: 596, Reason: "Connection timed out", Applied: true}
		case 3:
			return stage.Fault{Code: 596, Reason: "Broken pipe"}
		case 4:
			return stage.Fault{Code: 595, Reason: "Connection refused"}
		case 5:
			return stage.Fault{Delay: time.Duration(rng.Intn(3000)) * time.Millisecond}
		}
		if r.Method == http.MethodGet {
			return stage.Fault{}
		}
		late := r.Clone(context.WithoutCancel(r.Context()))
		time.AfterFunc(time.Duration(rng.Intn(20))*time.Second, func() {
			_, _ = stage.Transport{Handler: w.sim}.RoundTrip(late) // nobody waits for the answer
		})
		return stage.Fault{Refuse: true}
	}
}

// said is what a call's result promises about the container: true or false if
// it must be there or not, and known only then.
func said(err error, success bool) (there, known bool) {
	switch {
	case err == nil:
		return success, true
	case errors.Is(err, fleet.ErrUnknownOutcome):
		return false, false
	default:
		return !success, true
	}
}

// TestWhatIsSaidIsTrueInTrouble takes containers through their lives while
// requests and answers get lost. What a call says of its effect must be so, at
// once and for good; only ErrUnknownOutcome leaves it open.
func TestWhatIsSaidIsTrueInTrouble(t *testing.T) {
	open := 0
	for seed := range *worlds {
		synctest.Test(t, func(t *testing.T) {
			timing := slow
			timing.Clone = 300 * time.Millisecond
			w := newWorld(t, pve.Config{Seed: int64(seed), Timing: timing})
			w.always(w.trouble(rand.New(rand.NewSource(int64(seed)))))
			made, promised := map[fleet.VMID]bool{}, map[fleet.VMID]bool{}
			for id := fleet.VMID(20001); id < 20006; id++ {
				err := w.client.Clone(t.Context(), spec(id))
				there, known := said(err, true)
				made[id] = err == nil
				if !known {
					open++
					continue
				}
				promised[id] = there
				if w.there(id) != there {
					t.Errorf("seed %d: clone to %d said %v, but there is %v", seed, id, err, w.there(id))
				}
			}
			w.launchAll(seed, made)
			for id := range made {
				err := w.destroy(t.Context(), id)
				if err == nil && w.there(id) && made[id] {
					t.Errorf("seed %d: destroy %d succeeded, but it is there", seed, id)
				}
			}
			<-time.After(time.Minute) // what is late has come
			for id, there := range promised {
				if !there && w.made("clone", id) != 0 {
					t.Errorf("seed %d: clone to %d was said to have failed, but came later", seed, id)
				}
			}
			w.always(nil)
			w.sweep(seed)
		})
	}
	if open == 0 {
		t.Error("no outcome was unknown: the trouble is too small")
	}
}

func (w *world) launchAll(seed int, made map[fleet.VMID]bool) {
	for id, ok := range made {
		if !ok {
			continue
		}
		secret := fleet.NewSecret("jit-" + spec(id).Name)
		err := w.client.DeliverEnv(w.Context(), "pve", id, "JIT", secret)
		if set := w.real(id).Config["env"] == "JIT="+secret.Reveal(); err == nil && !set {
			w.Errorf("seed %d: environment of %d was set, but it is not there", seed, id)
		}
		err = w.client.Start(w.Context(), "pve", id)
		if running, known := said(err, true); known && w.real(id).Running != running {
			w.Errorf("seed %d: start of %d said %v, but running is %v", seed, id, err, !running)
		}
		if errors.Is(err, ErrRunning) {
			w.Errorf("seed %d: start of %d: its own start was taken for another's", seed, id)
		}
	}
}

// sweep destroys what is left, as the plan would, once there is no trouble.
func (w *world) sweep(seed int) {
	for _, c := range w.list().Owned {
		if err := w.destroy(w.Context(), c.VMID); err != nil {
			w.Errorf("seed %d: sweep %d: %v", seed, c.VMID, err)
		}
	}
	if l := w.list(); len(l.Owned)+len(l.Foreign) != 0 {
		w.Errorf("seed %d: left over: %+v", seed, l)
	}
	for id := fleet.VMID(20001); id < 20006; id++ {
		if n := w.made("clone", id); n > 1 {
			w.Errorf("seed %d: %d was cloned %d times", seed, id, n)
		}
	}
}

package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/github"
	"github.com/dayfly-ci/dayfly/internal/host"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// subject is what failures are counted for.
type subject struct {
	kind  fleet.Kind
	pool  string
	ref   fleet.Ref // the template version whose runners do not come up
	node  string
	scope fleet.Scope
}

// hold is a fleet.Hold and the failures behind it.
type hold struct {
	fleet.Hold
	failures int
	since    time.Time
	hint     string
	outage   string // what explains it, if that lasts
	denied   bool   // for want of a right
	last     time.Time
	proof    bool // a smoke boot has to show that it is over
}

// failed counts a failure and holds further attempts of its kind back. What
// Proxmox refuses is the node's, what GitHub refuses or a runner that never
// listens is the pool's, and a rate limit is the whole scope's.
func (d *Daemon) failed(key subject, err error) {
	if key.kind != fleet.Clone && key.kind != fleet.Launch && key.kind != fleet.Boot {
		return // clean-up is never held back, only repeated later
	}
	s := &d.state
	now := time.Now()
	d.metrics.failures.WithLabelValues(key.kind.String(), key.pool).Inc()
	retry := fleet.Retry{Min: 2 * time.Second, Max: time.Minute, Attempts: 5}
	if p, ok := s.pool(key.pool); ok {
		retry = p.Retry
	}
	side := githubAway
	if key.node != "" {
		side = proxmoxAway
	}
	until := time.Time{}
	var limit *fleet.RateLimit
	if errors.As(err, &limit) {
		key.pool, key.node = "", ""
		until = limit.Until
	} else {
		key.scope = ""
	}
	h := s.holds[key]
	if h.failures == 0 {
		h.since = now
	}
	h.failures++
	h.last = now
	if until.IsZero() {
		until = now.Add(retry.Delay(h.failures, seed(key)))
	}
	h.Hold = fleet.Hold{Kind: key.kind, Pool: key.pool, Ref: key.ref, Node: key.node, Scope: key.scope, Until: until, Reason: err.Error()}
	h.hint, h.outage, h.denied = hint(err), outage(err, side), errors.Is(err, fleet.ErrDenied)
	s.holds[key] = h
}

// succeeded ends a hold.
func (d *Daemon) succeeded(key subject) { delete(d.state.holds, key) }

// silent counts the runners that do not listen in time. It must be known when
// the plan looks for others in their place: those of another pool are better.
func (d *Daemon) silent(now time.Time) {
	for _, r := range d.state.inOrder() {
		phase := r.Phase()
		if phase == fleet.Proving {
			d.overdue(r, now)
		}
		if r.Started.IsZero() || phase != fleet.Launching {
			continue
		}
		p, ok := d.state.pool(r.Pool)
		if limit := p.Timeouts.Register; ok && now.Sub(r.Started) >= limit {
			d.dud(r, fmt.Sprintf("not listening %s after its start", limit))
		}
	}
}

// dud counts a started runner that never listened nor had a job against its
// pool, so that a broken template is not tried without end.
func (d *Daemon) dud(r *runner, why string) {
	if r.dud || r.Started.IsZero() || !r.Listened.IsZero() || r.Job != 0 {
		return
	}
	r.dud = true
	if !r.Smoked.IsZero() {
		d.unfit(r, why)
		return // no job waits for it
	}
	d.faulted(r, why)
	d.failed(subject{kind: fleet.Launch, pool: r.Pool, ref: r.Template}, fmt.Errorf("runner %s: %s", r.Name, why))
}

// listens ends the holds that a runner which listens proves wrong.
func (d *Daemon) listens(r *runner) {
	d.succeeded(subject{kind: fleet.Launch, pool: r.Pool, ref: r.Template})
	if !r.Booted.IsZero() {
		d.succeeded(subject{kind: fleet.Boot, pool: r.Pool, ref: r.Template})
	}
}

// holdKept is how long failures are remembered and shown after the last one
// if nothing is tried again, for want of demand.
const holdKept = time.Hour

// trouble is what a person sees of a hold, and when it ends.
func (h hold) trouble(now time.Time) Trouble {
	t := Trouble{Since: h.since, What: h.Reason, Hint: h.hint}
	if h.Until.After(now) {
		t.Next = h.Until
		return t
	}
	again := "it is tried again with the next job that needs it"
	if h.proof {
		again = "a smoke boot is to show whether it works again; until one passes, no job meets it"
	}
	if t.Hint == "" {
		t.Hint = again
	} else {
		t.Hint += "; " + again
	}
	return t
}

// retryNow ends every wait but those for a rate limit, which GitHub would only
// refuse again.
func (s *state) retryNow(now time.Time) {
	for key, h := range s.holds {
		if key.scope == "" && h.Until.After(now) {
			s.holds[key] = h.due(now)
		}
	}
}

// granted has what failed on a side for want of a right tried again: a check
// that began after that has found none missing. What nobody waits for is
// forgotten.
func (s *state) granted(side string, began, now time.Time) {
	for key, h := range s.holds {
		switch {
		case !h.denied || h.side() != side || began.Before(h.last):
		case h.Until.After(now):
			s.holds[key] = h.due(now)
		default:
			delete(s.holds, key)
		}
	}
}

// due is the hold with an end now, its failures not forgotten.
func (h hold) due(now time.Time) hold {
	h.Until = now
	return h
}

// side is the check that looks for what a hold is for.
func (h hold) side() string {
	if h.Node == "" {
		return githubCheck
	}
	return proxmoxCheck
}

// forgetHolds drops the holds of pools that are gone and those of long ago.
func (s *state) forgetHolds(now time.Time) {
	maps.DeleteFunc(s.holds, func(key subject, h hold) bool {
		_, there := s.pool(key.pool)
		return key.pool != "" && !there || now.Sub(h.Until) > holdKept
	})
}

func (k subject) compare(o subject) int {
	return cmp.Or(cmp.Compare(k.kind, o.kind), cmp.Compare(k.pool, o.pool), cmp.Compare(k.ref.String(), o.ref.String()), cmp.Compare(k.node, o.node), cmp.Compare(k.scope, o.scope))
}

func seed(k subject) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(k.kind.String() + "\x00" + k.pool + "\x00" + k.ref.String() + "\x00" + k.node + "\x00" + string(k.scope)))
	return h.Sum64()
}

// hint names what a person can do about an error, if its own words do not.
func hint(err error) string {
	var limit *fleet.RateLimit
	var refusal *github.Error
	var pve *proxmox.Error
	switch {
	case errors.As(err, &limit), errors.As(err, &refusal) && refusal.Hint != "":
		return "" // it says itself until when, or what to do
	case errors.As(err, &pve) && pve.Status == http.StatusUnauthorized:
		return "Proxmox does not accept the token: look at proxmox.token_file, and whether the token exists and has not expired"
	case errors.Is(err, fleet.ErrDenied):
		return "what is missing is told apart from this, with the command that grants it"
	case errors.Is(err, host.ErrUnshielded):
		return `run "pve-firewall status" on the node: it must be enabled and running, and so must the firewall of the datacenter (Datacenter, Firewall, Options), which Proxmox VE has off until somebody enables it`
	case distrust(err) != "":
		return distrust(err)
	case errors.Is(err, fleet.ErrUnavailable):
		return "check that this host reaches it; dayfly goes on by itself once it answers"
	case errors.Is(err, fleet.ErrLocked):
		return "see whether a task on the node still works on it"
	}
	return ""
}

// trouble is a Trouble and the outage that explains it, while that lasts.
type trouble struct {
	Trouble
	outage string
}

// trouble makes something known that a person should see, once for each key.
func (d *Daemon) trouble(key, what, hint string) { d.partOf("", key, what, hint) }

// partOf is trouble for what is part of an outage, if that is told.
func (d *Daemon) partOf(outage, key, what, hint string) {
	old, known := d.state.troubles[key]
	since := old.Since
	if !known {
		since = time.Now()
	}
	if (!known || old.What != what) && !d.state.lasts(outage) {
		d.log.Warn("trouble", "what", what, "hint", hint)
	}
	d.state.troubles[key] = trouble{Trouble{Since: since, What: what, Hint: hint}, outage}
}

// fine ends a trouble.
func (d *Daemon) fine(key string) {
	t, known := d.state.troubles[key]
	if !known {
		return
	}
	delete(d.state.troubles, key)
	if !d.state.lasts(t.outage) {
		d.log.Info("trouble is over", "what", t.What)
	}
	if key == githubAway || key == proxmoxAway || key == journalAway {
		d.recovered(key)
	}
}

// troubled lists the troubles, the oldest first, without those that another
// explains.
func (s *state) troubled(now time.Time) []Trouble {
	list := []Trouble{}
	for key, t := range s.troubles {
		if s.lasts(t.outage) {
			continue
		}
		if isCheck(key) {
			t.Next = s.nextCheck()
		}
		list = append(list, t.Trouble)
	}
	for _, h := range s.holds {
		if !s.lasts(h.outage) {
			list = append(list, h.trouble(now))
		}
	}
	slices.SortFunc(list, func(a, b Trouble) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.What, b.What), cmp.Compare(a.Hint, b.Hint))
	})
	return list
}

package hub

import "time"

// Habits are the hub's bad ones: each is the share (0 to 1) of cases in which
// it shows. The zero value behaves well.
type Habits struct {
	Lose       float64       // webhooks that are never sent, and leave no trace
	Fail       float64       // webhooks that do not reach the receiver; GitHub knows
	Double     float64       // webhooks sent twice under one GUID
	Late       float64       // webhooks held back, for up to LateBy
	LateBy     time.Duration // default 30 min
	Swap       float64       // webhooks overtaken by the job's next one
	Forge      float64       // a bad copy, signed with another secret, goes before
	BusyLies   float64       // jobs during which REST says busy:false and DELETE succeeds
	RemoveIdle float64       // idle listeners that the server removes after 2 to 6 min
	StaleLists float64       // lists of runners that show them as they were 5 s ago
}

// SetHabits changes the habits from now on.
func (h *Hub) SetHabits(b Habits) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.habits = b
}

// Fate is what happens to one webhook. The zero value delivers it.
type Fate struct {
	lose, fail, double, swap, forge bool
	late                            time.Duration
}

// The fates of a webhook, for NextWebhook.
var (
	Deliver = Fate{}
	Lose    = Fate{lose: true}
	Fail    = Fate{fail: true}
	Double  = Fate{double: true}
	Swap    = Fate{swap: true}
	Forge   = Fate{forge: true}
)

// Late delivers a webhook that much later, past the ones that follow.
func Late(d time.Duration) Fate { return Fate{late: d} }

// NextWebhook decides the fates of the next webhooks, one each, before chance
// has its turn again.
func (h *Hub) NextWebhook(fates ...Fate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.post.scripted = append(h.post.scripted, fates...)
}

// fate takes the next scripted one or draws one.
func (h *Hub) fate() Fate {
	if s := h.post.scripted; len(s) > 0 {
		h.post.scripted = s[1:]
		return s[0]
	}
	b := h.habits
	f := Fate{
		lose: h.chance(b.Lose), fail: h.chance(b.Fail), double: h.chance(b.Double),
		swap: h.chance(b.Swap), forge: h.chance(b.Forge),
	}
	if h.chance(b.Late) {
		by := b.LateBy
		if by == 0 {
			by = 30 * time.Minute
		}
		f.late = 1 + time.Duration(h.rng.Int64N(int64(by)))
	}
	return f
}

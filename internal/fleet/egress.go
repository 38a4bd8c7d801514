package fleet

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// RulesLag is how long after a container was made its firewall's rules are in
// force: pve-firewall compiles them every 10 s, those of stopped containers
// too, and takes a while for it (PVE/Service/pve_firewall.pm).
const RulesLag = 15 * time.Second

// Policy is what a pool's containers may reach.
type Policy int

// The policies.
const (
	Everything Policy = iota // whatever the template's own firewall lets through
	Internet                 // no private network
	Nothing
)

var policyNames = [...]string{"all", "internet", "none"}

func (p Policy) String() string { return word(policyNames[:], int(p)) }

// Egress is what the firewall of a pool's containers lets out.
type Egress struct {
	Policy Policy
	Allow  []Peer // in any case
}

// Peer is who may be reached. Zero fields are any.
type Peer struct {
	To       string // an address, or a network: "10.20.0.0/24"
	Protocol string // "tcp" or "udp"
	Port     int
}

func (p Peer) String() string {
	to := cmp.Or(p.To, "anywhere")
	if p.Port == 0 {
		return to
	}
	if strings.Contains(to, ":") {
		to = "[" + to + "]"
	}
	return fmt.Sprintf("%s:%d/%s", to, p.Port, p.Protocol)
}

// allowed is Allow in words.
func (e Egress) allowed() string {
	var list []string
	for _, p := range e.Allow {
		list = append(list, p.String())
	}
	return strings.Join(list, " ")
}

// shielded reports whether a container's firewall is in force, where nobody else
// looks for that: no JIT config may reach it before. One that was found rather
// than made counts from when it was found. A warm container was a spare before.
func (p *pass) shielded(q *pool, r *Runner) bool {
	return !p.lags(q, r) || p.passed(r.Cloned.Add(RulesLag))
}

// lags reports whether RulesLag is waited for: where the pool asks for a firewall,
// and where the node's root half, which would look for the rules, is away.
func (p *pass) lags(q *pool, r *Runner) bool {
	return q.Egress.Policy != Everything || p.room.lone[r.Node]
}

// returns is when a spare may be used that may not be now, and why.
func (p *pass) returns(q *pool, r *Runner) string {
	if lag := r.Cloned.Add(RulesLag); p.lags(q, r) && lag.After(r.Retry) {
		return "and its firewall is in force at " + clock(lag)
	}
	return "and tried again at " + clock(r.Retry)
}

package proxmox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// wall is what is set of a container's firewall: options, and rules that come
// before all others. Both are by the API's names. The rules carry a comment, by
// which they are known again; others are left alone.
type wall struct {
	options Options
	rules   []Options
	mark    string
}

// firewall is a container's firewall as the API shows it.
type firewall struct {
	Rules   []settings
	Options settings // nil: they were not asked for
}

// raise makes a firewall as wanted. It may be repeated, and is when an answer
// was lost. The options are set last: a firewall that is not finished would
// stop what it lets through.
func (c *Client) raise(ctx context.Context, path string, w wall) error {
	if err := c.dropRules(ctx, path+"/rules", w.mark); err != nil {
		return err
	}
	for _, r := range slices.Backward(w.rules) { // a new rule comes first, wherever it is asked to be (Firewall.pm, create_rule)
		r = maps.Clone(r)
		r["comment"] = w.mark
		if err := unwrap("POST", path+"/rules", c.api.Post(ctx, path+"/rules", r, nil)); err != nil {
			return err
		}
	}
	return c.put(ctx, path+"/options", w.options)
}

// dropRules removes the rules with a comment, the last one first: the others
// keep their places. The digest holds that they are still there.
func (c *Client) dropRules(ctx context.Context, path, mark string) error {
	for {
		rules, err := c.rulesOf(ctx, path)
		if err != nil {
			return err
		}
		i := len(rules) - 1
		for i >= 0 && string(rules[i]["comment"]) != mark {
			i--
		}
		if i < 0 {
			return nil
		}
		one := fmt.Sprintf("%s/%d", path, i)
		query := url.Values{"digest": {string(rules[i]["digest"])}}
		if err := unwrap("DELETE", one, c.api.Delete(ctx, one+"?"+query.Encode(), nil)); err != nil {
			return err
		}
	}
}

// rulesOf lists the rules in their order, which is their pos.
func (c *Client) rulesOf(ctx context.Context, path string) ([]settings, error) {
	var rules []settings
	if err := c.get(ctx, path, nil, &rules); err != nil {
		return nil, err
	}
	return rules, nil
}

// look reads what there is of a wall. The options are asked for where there
// are rules with its comment.
func (c *Client) look(ctx context.Context, path string, mark string) (firewall, error) {
	var f firewall
	var err error
	if f.Rules, err = c.rulesOf(ctx, path+"/rules"); err != nil {
		return f, err
	}
	if slices.ContainsFunc(f.Rules, func(r settings) bool { return string(r["comment"]) == mark }) {
		err = c.get(ctx, path+"/options", nil, &f.Options)
	}
	return f, err
}

// differs says how a firewall is not as wanted, in words; empty: it is.
func (w wall) differs(f firewall) string {
	for i, want := range w.rules {
		if i >= len(f.Rules) || !f.Rules[i].has(want) || string(f.Rules[i]["comment"]) != w.mark {
			return fmt.Sprintf("firewall rule %d is not %s", i, w.rules[i].rule())
		}
	}
	for i := len(w.rules); i < len(f.Rules); i++ {
		if string(f.Rules[i]["comment"]) == w.mark {
			return fmt.Sprintf("firewall rule %d is one too many", i)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(w.options)) {
		if have, want := f.Options[key], fmt.Sprint(w.options[key]); string(have) != want {
			return fmt.Sprintf("firewall option %s is %q, not %q", key, string(have), want)
		}
	}
	return ""
}

// ruleKeys are what makes a rule.
var ruleKeys = []string{"type", "action", "dest", "proto", "dport", "enable", "source", "sport", "iface", "macro", "icmp-type"}

// has reports whether a rule is the one wanted, with nothing that narrows it.
func (s settings) has(want Options) bool {
	for _, key := range ruleKeys {
		value := ""
		if v, ok := want[key]; ok {
			value = fmt.Sprint(v)
		}
		if string(s[key]) != value {
			return false
		}
	}
	return true
}

// rule is a rule in words.
func (o Options) rule() string {
	text := fmt.Sprint(o["type"], " ", o["action"])
	for _, key := range []string{"dest", "proto", "dport"} {
		if v, ok := o[key]; ok {
			text += fmt.Sprint(" ", key, " ", v)
		}
	}
	return text
}

// fence sets the firewall of a new container that does not run, reads it again
// and is content when it is as its pool says.
func (c *Client) fence(ctx context.Context, at place, e fleet.Egress) error {
	c.walls.forget(at.id)
	if e.Policy == fleet.Everything {
		c.walls.keep(at, firewall{Rules: []settings{}}) // none of ours, as far as rules matter
		return nil
	}
	w, path := wallFor(e), container(at.node, at.id, "/firewall")
	var last error = &Error{Reason: "no time left", Kind: fleet.ErrUnavailable, Cause: ctx.Err()}
	for looks := newLooks(); looks.next(ctx); {
		f, err := c.look(ctx, path, w.mark)
		if err == nil && w.differs(f) == "" {
			c.walls.keep(at, f)
			return nil
		}
		if err == nil {
			last = fmt.Errorf("%s: %w", w.differs(f), fleet.ErrUnavailable)
			err = c.raise(ctx, path, w)
		}
		if err != nil && !unknown(err) && !errors.Is(err, errModified) && !errors.Is(err, fleet.ErrUnavailable) {
			return fmt.Errorf("set firewall: %w", err)
		}
		if err != nil {
			last = err
		}
	}
	return fmt.Errorf("set firewall: %w", last)
}

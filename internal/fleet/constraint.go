package fleet

import (
	"errors"
	"fmt"
	"strings"
)

// Constraint is which template versions a pool may follow: those that meet
// every one of its bounds. The empty constraint allows all.
type Constraint []Bound

// Bound is one comparison with a version.
type Bound struct{ Op, Version string }

// operators, the longer ones first, so that ">=" is not read as ">".
var operators = []string{"~>", ">=", "<=", "!=", "=", ">", "<"}

// ParseConstraint reads comparisons separated by commas: ">= 2.335, < 3".
// "~> 2.335" is at least 2.335 and below 3, "~> 2.335.1" below 2.336.
func ParseConstraint(text string) (Constraint, error) {
	var c Constraint
	for part := range strings.SplitSeq(text, ",") {
		b, err := parseBound(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("read version constraint %q: %w", text, err)
		}
		c = append(c, b)
	}
	return c, nil
}

func parseBound(text string) (Bound, error) {
	for _, op := range operators {
		if rest, ok := strings.CutPrefix(text, op); ok {
			b := Bound{op, strings.TrimSpace(rest)}
			switch {
			case b.Version == "" || strings.ContainsAny(b.Version, "~<>=!^*|, \t"):
				return Bound{}, fmt.Errorf("%q names no version", text)
			case op == "~>" && b.ceiling() == "":
				return Bound{}, fmt.Errorf("%q needs at least two numbers, such as ~> 2.335", text)
			}
			return b, nil
		}
	}
	return Bound{}, errors.New("a comparison is expected: =, !=, <, <=, >, >= or ~> and a version")
}

// Allows reports whether a version meets every bound.
func (c Constraint) Allows(version string) bool {
	for _, b := range c {
		if !b.allows(version) {
			return false
		}
	}
	return true
}

func (b Bound) allows(v string) bool {
	switch b.Op {
	case "=":
		return v == b.Version
	case "!=":
		return v != b.Version
	case ">":
		return Newer(v, b.Version)
	case ">=":
		return !Newer(b.Version, v)
	case "<":
		return Newer(b.Version, v)
	case "<=":
		return !Newer(v, b.Version)
	default: // "~>": 3-beta is of 3, which is why the next number itself bounds
		return !Newer(b.Version, v) && Newer(b.ceiling(), v)
	}
}

// ceiling is the first version that a "~>" no longer allows: the number before
// the last one is counted up, and what follows is left out.
func (b Bound) ceiling() string {
	base, _, _ := strings.Cut(b.Version, "-") // a build's number bounds nothing
	numbers := strings.Split(base, ".")
	if len(numbers) < 2 {
		return ""
	}
	numbers = numbers[:len(numbers)-1]
	last := numbers[len(numbers)-1]
	n := 0
	for i := range len(last) {
		if !digit(last[i]) || n > 1e9 {
			return ""
		}
		n = 10*n + int(last[i]-'0')
	}
	numbers[len(numbers)-1] = fmt.Sprint(n + 1)
	return strings.Join(numbers, ".")
}

func (c Constraint) String() string {
	parts := make([]string, len(c))
	for i, b := range c {
		parts[i] = b.Op + " " + b.Version
	}
	return strings.Join(parts, ", ")
}

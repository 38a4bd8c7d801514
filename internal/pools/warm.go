package pools

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

var (
	weekdayForm = regexp.MustCompile(`^(mon|tue|wed|thu|fri|sat|sun)$`)
	clockForm   = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)
	zoneForm    = regexp.MustCompile(`^(UTC|[A-Za-z_]+(/[A-Za-z0-9_+-]+){1,2})$`)
)

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// window reads what a schedule block and a window block have in common.
func (r *reader) window(days, from, length, zone *hcl.Attribute) fleet.Window {
	w := fleet.Window{
		For:  r.duration(length, time.Minute, 24*time.Hour),
		From: r.clock(from),
		Zone: r.zone(zone),
	}
	for _, d := range texts(r.list(days, 7, weekdayForm, `A day, from "mon" to "sun",`)) {
		if i := slices.Index(dayNames, d); i >= 0 {
			w.Days[i] = true
		}
	}
	return w
}

// clock reads "08:30".
func (r *reader) clock(a *hcl.Attribute) time.Duration {
	s := r.text(a, clockForm, `A time of the day, such as "08:30",`)
	hour, minute, ok := strings.Cut(s, ":")
	if !ok {
		return 0
	}
	number := func(s string) time.Duration { return time.Duration(s[0]-'0')*10 + time.Duration(s[1]-'0') }
	return number(hour)*time.Hour + number(minute)*time.Minute
}

// zone reads "Europe/Berlin". Only names of the form above reach the time zone
// database, which is read from the file system.
func (r *reader) zone(a *hcl.Attribute) *time.Location {
	name := r.text(a, zoneForm, `A time zone, such as "Europe/Berlin",`)
	if name == "" || name == "UTC" {
		return time.UTC
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		r.refuse(a, a.Expr.Range(), "Time zone %.40q is not known on this machine (package tzdata).", name)
		return time.UTC
	}
	return zone
}

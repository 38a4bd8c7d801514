package hub

import (
	"strconv"
	"strings"
	"time"
)

// Versions is GitHub's policy on runner versions.
type Versions struct {
	Floor  string               // the oldest that may work, default 2.329.0
	Policy VersionPolicy        // what happens to an older one
	Ends   map[string]time.Time // announced ends, for the deprecations endpoint
	// NoDeprecations: the deprecations endpoint does not exist, as on older servers.
	NoDeprecations bool
}

// VersionPolicy is how a runner that is too old finds out.
type VersionPolicy int

const (
	// RefuseMessages lets it connect and refuses it when it listens (the text
	// of exit code 7).
	RefuseMessages VersionPolicy = iota
	// RefuseSession refuses it when it connects.
	RefuseSession
	// Starve lets it listen and never gives it a job.
	Starve
)

func (v Versions) orDefaults() Versions {
	if v.Floor == "" {
		v.Floor = "2.329.0"
	}
	return v
}

// SetVersions changes the policy from now on; runners that listen already keep
// listening.
func (h *Hub) SetVersions(v Versions) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.versions = v.orDefaults()
}

// refusedVersion is ErrDeprecated of a version, in the words that a runner prints.
type refusedVersion string

func (v refusedVersion) Error() string {
	return "Runner version v" + string(v) + " is deprecated and cannot receive messages."
}

// Is makes it ErrDeprecated.
func (v refusedVersion) Is(target error) bool { return target == ErrDeprecated }

// tooOld reports whether the version is below the floor or past its end.
func (h *Hub) tooOld(version string) bool {
	if end, there := h.versions.Ends[version]; there && !h.clock.Now().Before(end) {
		return true
	}
	return older(version, h.versions.Floor)
}

// older compares versions such as 2.335.1 number by number.
func older(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		x, _ := strconv.Atoi(as[i])
		y, _ := strconv.Atoi(bs[i])
		if x != y {
			return x < y
		}
	}
	return len(as) < len(bs)
}

// showDeprecation is GET …/actions/runners/deprecations/{version}. The date of
// the registration's end is documented but never there.
func (h *Hub) showDeprecation(c *call) answer {
	if h.versions.NoDeprecations {
		return notFound()
	}
	version := c.r.PathValue("version")
	body := map[string]any{"runner_version": version, "runtime_deprecates_at": nil}
	if end, there := h.versions.Ends[version]; there {
		body["runtime_deprecates_at"] = stamp(end)
	}
	return ok(body)
}

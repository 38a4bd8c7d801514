package fleet

import (
	"fmt"
	"testing"
	"time"
)

func TestPhaseIsDerivedFromWhatIsSeen(t *testing.T) {
	at := noon
	for name, tt := range map[string]struct {
		r    Runner
		want Phase
	}{
		"intent to clone":                        {Runner{Pending: Clone}, Cloning},
		"clone under way":                        {Runner{Pending: Clone, Container: Creating}, Cloning},
		"clone of unknown outcome":               {Runner{Created: at}, Cloning},
		"stopped, nobody knows why":              {Runner{Container: Stopped, Created: at}, Cloning},
		"half a container":                       {Runner{Container: Creating, Created: at}, Cloning},
		"its clone failed":                       {Runner{Container: Creating, Spent: at}, Done},
		"its clone failed, nothing left":         {Runner{Spent: at}, Gone},
		"spare":                                  {Runner{Container: Stopped, Cloned: at}, Spare},
		"spare on a node that is away":           {Runner{Container: Unseen, Cloned: at}, Spare},
		"spare with a registration":              {Runner{Container: Stopped, Cloned: at, Registration: Offline}, Spare},
		"spare taken away":                       {Runner{Container: Absent, Cloned: at}, Gone},
		"launch just decided":                    {Runner{Container: Stopped, Cloned: at, Pending: Launch}, Launching},
		"launch under way":                       {Runner{Container: Stopped, Cloned: at, Launched: at, Pending: Launch}, Launching},
		"launch cut off":                         {Runner{Container: Stopped, Cloned: at, Launched: at}, Launching},
		"runs, not remembered":                   {Runner{Container: Running}, Launching},
		"booting":                                {Runner{Container: Running, Launched: at, Started: at, Registration: Offline}, Launching},
		"its launch failed":                      {Runner{Container: Running, Launched: at, Spent: at, Registration: Offline}, Done},
		"listening":                              {Runner{Container: Running, Started: at, Registration: Online}, Idle},
		"listened once":                          {Runner{Container: Running, Started: at, Listened: at}, Idle},
		"listening, not remembered":              {Runner{Container: Running, Registration: Online}, Idle},
		"busy by its flag":                       {Runner{Container: Running, Started: at, Registration: BusyFlag}, Busy},
		"busy by its job":                        {Runner{Container: Running, Started: at, Registration: Online, Job: 1}, Busy},
		"busy by its hook":                       {Runner{Container: Running, Started: at, Registration: Online, Took: at}, Busy},
		"busy though given up":                   {Runner{Container: Running, Started: at, Registration: BusyFlag, Spent: at}, Busy},
		"busy on a node that is away":            {Runner{Container: Unseen, Started: at, Job: 1}, Busy},
		"deregistered":                           {Runner{Container: Running, Started: at, Listened: at, Spent: at, Removed: at}, Done},
		"its job ended":                          {Runner{Container: Running, Started: at, Job: 1, Ended: at}, Done},
		"its job ended, flag lags":               {Runner{Container: Running, Started: at, Job: 1, Ended: at, Registration: BusyFlag}, Done},
		"powered off, flag lags":                 {Runner{Container: Stopped, Started: at, Job: 1, Registration: BusyFlag}, Done},
		"registered, seen stopped, not started":  {Runner{Container: Stopped, Launched: at, Registration: BusyFlag}, Busy},
		"registration without a container":       {Runner{Registration: Offline}, Done},
		"registration says busy, no container":   {Runner{Registration: BusyFlag, Job: 1}, Done},
		"gone while it ran":                      {Runner{Started: at, Job: 1}, Gone},
		"destroyed":                              {Runner{Started: at, Ended: at}, Gone},
		"destroyed, registration left":           {Runner{Started: at, Ended: at, Registration: Offline}, Done},
		"being destroyed":                        {Runner{Container: Stopped, Started: at, Ended: at, Pending: Destroy}, Done},
		"destroyed, registration being removed":  {Runner{Started: at, Ended: at, Pending: Deregister}, Done},
		"destroyed while its node is away again": {Runner{Container: Unseen, Started: at, Ended: at}, Done},
	} {
		if got := tt.r.Phase(); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestForgettableOnlyWhenNoRegistrationCanBeLeft(t *testing.T) {
	before, after := Evidence{Registrations: noon.Add(-time.Second)}, Evidence{Registrations: noon.Add(time.Second)}
	for name, tt := range map[string]struct {
		r    Runner
		ev   Evidence
		want bool
	}{
		"never launched":      {Runner{Spent: noon}, Evidence{}, true},
		"launched, not asked": {Runner{Launched: noon, Spent: noon}, before, false},
		"launched, asked":     {Runner{Launched: noon, Spent: noon}, after, true},
		"removed":             {Runner{Launched: noon, Spent: noon, Removed: noon}, before, true},
		"vanished, asked":     {Runner{Launched: noon}, after, true},
		"vanished, not asked": {Runner{Launched: noon}, before, false},
		"registered":          {Runner{Launched: noon, Spent: noon, Registration: Offline}, after, false},
		"still there":         {Runner{Launched: noon, Spent: noon, Container: Stopped}, after, false},
		"action under way":    {Runner{Launched: noon, Spent: noon, Pending: Destroy}, after, false},
	} {
		if got := tt.r.Forgettable(tt.ev); got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
	}
}

func TestEveryValueHasAWord(t *testing.T) {
	for want, got := range map[string]fmt.Stringer{
		"deregister": Deregister, "unseen": Unseen, "busy": BusyFlag, "gone": Gone, "in_progress": InProgress, "unknown": Status(99),
		"99": Kind(99), "-1": Phase(-1), "4": Registration(4), "5": Container(5),
		"ubuntu@1": Ref{"ubuntu", "1"}, "ubuntu": Ref{Family: "ubuntu"},
		"clone for pool a from template 9001 on n1: why": Action{Kind: Clone, Pool: "a", Template: 9001, Node: "n1", Reason: "why"},
		"deregister a1: why":                             Action{Kind: Deregister, Runner: "a1", Reason: "why"},
	} {
		if got.String() != want {
			t.Errorf("%#v prints %q, want %q", got, got.String(), want)
		}
	}
	if err := (&RateLimit{noon, "secondary"}); err.Error() != "rate limit until 2026-03-01T12:00:00Z: secondary" || !err.Is(ErrUnavailable) || err.Is(ErrBusy) {
		t.Errorf("%v", err)
	}
}

func TestScope(t *testing.T) {
	for _, tt := range []struct {
		scope Scope
		repo  string
		want  bool
	}{
		{"acme", "acme/app", true}, {"ACME", "acme/app", true}, {"acme/app", "Acme/App", true}, {"acme/app", "acme/lib", false},
		{"acme", "acme2/app", false}, {"acme", "acme", false}, {"", "/app", true}, {"acme/app", "acme", false},
	} {
		if got := tt.scope.Covers(tt.repo); got != tt.want {
			t.Errorf("%q covers %q: %t, want %t", tt.scope, tt.repo, got, tt.want)
		}
	}
	if s := Scope("acme/app"); !s.Repo() || s.Owner() != "acme" || Scope("acme").Repo() {
		t.Errorf("%s is no repository", s)
	}
}

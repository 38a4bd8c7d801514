package fleet

import (
	"errors"
	"fmt"
	"time"
)

// The kinds of errors the adapters return, for errors.Is.
var (
	ErrNotFound       = errors.New("not found")
	ErrExists         = errors.New("already exists")
	ErrLocked         = errors.New("locked")            // try again later
	ErrDenied         = errors.New("permission denied") // a person must act
	ErrBusy           = errors.New("busy")              // GitHub: the runner runs a job
	ErrInvalid        = errors.New("refused as invalid")
	ErrUnavailable    = errors.New("unavailable")     // no effect; try again later
	ErrUnknownOutcome = errors.New("outcome unknown") // the effect may have happened: look before repeating
)

// RateLimit is the refusal of a call until a time, without effect.
type RateLimit struct {
	Until  time.Time
	Reason string
}

func (e *RateLimit) Error() string {
	return fmt.Sprintf("rate limit until %s: %s", e.Until.UTC().Format(time.RFC3339), e.Reason)
}

// Is makes a rate limit an ErrUnavailable.
func (*RateLimit) Is(target error) bool { return target == ErrUnavailable }

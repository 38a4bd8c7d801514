package daemon

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/github"
	"github.com/dayfly-ci/dayfly/internal/journal"
)

// The troubles that explain others: while one of them lasts, what fails for
// its sake is not told beside it.
const (
	githubAway  = "github"
	proxmoxAway = "proxmox"
	journalAway = "journal"
)

// errUnwritten marks what failed because the journal could not be written.
var errUnwritten = errors.New("write journal")

// outage names the trouble that explains an error, if it lasts: that of the
// side that was asked, or the journal's.
func outage(err error, side string) string {
	var limit *fleet.RateLimit // is an ErrUnavailable, and an answer
	var refusal *github.Error  // it may be that GitHub refuses the App itself
	switch {
	case errors.Is(err, errUnwritten):
		return journalAway
	case errors.As(err, &limit):
		return ""
	case errors.As(err, &refusal), errors.Is(err, fleet.ErrUnavailable), errors.Is(err, fleet.ErrUnknownOutcome):
		return side
	}
	return ""
}

// lasts reports whether an outage is told.
func (s *state) lasts(outage string) bool {
	_, told := s.troubles[outage]
	return told
}

// recovered forgets what an outage explained and has everything looked at:
// what is still so shows at once.
func (d *Daemon) recovered(outage string) {
	maps.DeleteFunc(d.state.troubles, func(_ string, t trouble) bool { return t.outage == outage })
	maps.DeleteFunc(d.state.holds, func(_ subject, h hold) bool { return h.outage == outage })
	d.looks.all()
}

// probeBound bounds the question whether GitHub answers at all.
const probeBound = 10 * time.Second

// reportGitHub makes the failure of a look at GitHub known, or its end. After a
// failure GitHub is asked whether it serves us at all: if it does not, that is
// the trouble, once, whatever else fails.
func (d *Daemon) reportGitHub(ctx context.Context, key string, err error) {
	away := d.githubAway(ctx, err)
	if ctx.Err() != nil {
		return
	}
	of := outage(err, githubAway)
	d.inbox.post(func(*state) {
		switch {
		case away != nil:
			d.trouble(githubAway, away.Summary(), away.Fix)
		case err == nil, of == githubAway:
			d.fine(githubAway) // it answered, this or the question
			of = ""
		}
		if err != nil {
			d.partOf(of, key, err.Error(), hint(err))
		} else {
			d.fine(key)
		}
	})
}

// githubAway asks, if err may come from it, whether GitHub does not serve us.
func (d *Daemon) githubAway(ctx context.Context, err error) *github.Problem {
	if outage(err, githubAway) != githubAway {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeBound)
	defer cancel()
	return d.cfg.GitHub.Away(ctx)
}

// journalFailed makes it known that something could not be written.
func (d *Daemon) journalFailed(err error) {
	what, hint := err.Error(), "do what the message says; dayfly tries again by itself"
	if errors.Is(err, journal.ErrFull) {
		what, hint = "disk full", "free space on the disk of the state directory (daemon.state_dir): until then nothing is begun and deliveries are refused; dayfly fetches those afterwards"
	}
	d.inbox.post(func(*state) { d.trouble(journalAway, "the journal cannot be written: "+what, hint) })
}

// probe is about what a delivery takes in the write-ahead log: where a few
// bytes fit in, it need not.
const (
	probeKey  = "probe"
	probeSize = 16 << 10
)

// lookAtJournal tries whether the journal can be written again, if it could
// not: nothing else may come that shows it.
func (d *Daemon) lookAtJournal(ctx context.Context) error {
	lasts, err := ask(ctx, d, func(s *state) bool { return s.lasts(journalAway) })
	if err != nil || !lasts {
		return err
	}
	if err := d.cfg.Journal.Put(ctx, probeKey, make([]byte, probeSize)); err != nil {
		d.journalFailed(err)
		return nil
	}
	d.inbox.post(func(*state) { d.fine(journalAway) })
	return nil
}

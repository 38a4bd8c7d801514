package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// supervised tells systemd, if it asks, that the daemon is ready, that it is
// healthy for as long as it is, and that it stops.
func supervised(ctx context.Context, healthy func(context.Context) error, log *slog.Logger) error {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("read watchdog's period: %w", err)
	}
	defer notify(log, daemon.SdNotifyStopping)
	if healthy(ctx) != nil {
		return nil // ctx ended, or the daemon did and says why
	}
	notify(log, daemon.SdNotifyReady)
	if every == 0 {
		<-ctx.Done()
		return nil
	}
	watch(ctx, every/2, healthy, func() { notify(log, daemon.SdNotifyWatchdog) })
	return nil
}

// watch calls alive at every period in which healthy said so in time.
func watch(ctx context.Context, period time.Duration, healthy func(context.Context) error, alive func()) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		bound, cancel := context.WithTimeout(ctx, period)
		if healthy(bound) == nil {
			alive()
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd not told", "state", state, "err", err)
	}
}

package lxc

import (
	"context"
	"log"
	"log/slog"
	"strings"
)

// apiLog passes the API client's log to Packer's, which is the standard
// logger. Packer filters secrets from it, and the client logs none.
type apiLog struct{}

func (a *apiLog) logger() *slog.Logger {
	if a == nil {
		return nil
	}
	return slog.New(a)
}

// Enabled implements slog.Handler.
func (*apiLog) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (*apiLog) Handle(_ context.Context, r slog.Record) error {
	var text strings.Builder
	text.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		text.WriteString(" " + a.String())
		return true
	})
	log.Printf("[%s] %s", r.Level, text.String())
	return nil
}

// WithAttrs implements slog.Handler. The client adds none.
func (a *apiLog) WithAttrs([]slog.Attr) slog.Handler { return a }

// WithGroup implements slog.Handler. The client makes none.
func (a *apiLog) WithGroup(string) slog.Handler { return a }

package main

import (
	"io"
	"log/slog"
)

// newLog writes text for people and JSON for machines. An empty format is
// text on a terminal and JSON elsewhere.
func newLog(w io.Writer, level slog.Level, format string) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if format == "text" || format == "" && terminal(w) {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

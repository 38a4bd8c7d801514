package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// style is whether text may carry terminal escapes.
type style bool

// styleOf follows no-color.org: a terminal, unless NO_COLOR is set and not
// empty.
func styleOf(w io.Writer) style {
	return style(terminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (s style) wrap(code, text string) string {
	if !s || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(text string) string   { return s.wrap("1", text) }
func (s style) red(text string) string    { return s.wrap("1;31", text) }
func (s style) yellow(text string) string { return s.wrap("33", text) }

// age is a duration as people say it: "12s", "3m12s", "5h7m", "2d3h".
func age(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// took is a duration as one measures it: "4ms", "1.2s", then as age.
func took(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d/time.Millisecond)
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return age(d)
}

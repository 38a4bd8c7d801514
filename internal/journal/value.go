package journal

import (
	"math"
	"time"
	"unicode/utf8"
)

// nano is a time as it is stored. Times outside the years 1678 to 2262 do not
// fit and become the ends; nothing here is that old.
func nano(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

func moment(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// maxText bounds the texts that come from others' errors.
const maxText = 2048

// clip cuts a text to maxText bytes, between two letters.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText - len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

package fleet

import "strings"

// Newer reports whether template version a comes after b. Runs of digits
// compare as numbers ("2.10" is newer than "2.9"), all else as text.
func Newer(a, b string) bool {
	for a != "" && b != "" {
		x, y := token(a), token(b)
		a, b = a[len(x):], b[len(y):]
		if digit(x[0]) && digit(y[0]) {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if len(x) != len(y) {
				return len(x) > len(y)
			}
		}
		if x != y {
			return x > y
		}
	}
	return len(a) > len(b)
}

// token is the leading run of digits of s, or its first byte.
func token(s string) string {
	n := 0
	for n < len(s) && digit(s[n]) {
		n++
	}
	return s[:max(n, 1)]
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

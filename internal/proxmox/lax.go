package proxmox

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Proxmox is written in Perl: whether a scalar comes as a JSON number, string
// or boolean depends on how it was last used. These types take them all.

// text is any scalar, as text.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	switch {
	case string(b) == "null":
		*t = ""
	case len(b) > 1 && b[0] == '"' && !bytes.ContainsRune(b, '\\') && utf8.Valid(b):
		*t = text(b[1 : len(b)-1]) // as it is: nearly every string of a listing
	case bytes.HasPrefix(b, []byte(`"`)):
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*t = text(s)
	default: // a number, a boolean, or a structure kept as it is
		*t = text(b)
	}
	return nil
}

// integer is a whole number; fractions are cut off, what is no number is 0.
type integer int64

func (i *integer) UnmarshalJSON(b []byte) error {
	var t text
	if err := t.UnmarshalJSON(b); err != nil {
		return err
	}
	*i = integer(t.int())
	return nil
}

// boolean is 0 or 1, as Proxmox writes it.
type boolean bool

func (f *boolean) UnmarshalJSON(b []byte) error {
	var t text
	if err := t.UnmarshalJSON(b); err != nil {
		return err
	}
	*f = boolean(t.bool())
	return nil
}

func (t text) int() int64 {
	if n, err := strconv.ParseInt(string(t), 10, 64); err == nil {
		return n
	}
	f, err := strconv.ParseFloat(string(t), 64)
	if err != nil {
		return 0
	}
	return int64(f)
}

// bool follows PVE::JSONSchema's parse_boolean.
func (t text) bool() bool {
	switch strings.ToLower(string(t)) {
	case "1", "on", "yes", "true":
		return true
	}
	return false
}

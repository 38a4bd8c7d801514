package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretIsPrintedByNoFormat(t *testing.T) {
	const text = "hunter2"
	s := NewSecret(text)
	hidden := struct {
		Open   Secret
		closed Secret // fmt prints such fields without asking their methods
		p      *Secret
		list   []Secret
		keys   map[string]Secret
		any    any
	}{s, s, &s, []Secret{s}, map[string]Secret{"a": s}, s}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%t", "%p", "%10s", "%w"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", &s)
		fmt.Fprintf(&out, verb+"\n", hidden)
		fmt.Fprintf(&out, verb+"\n", &hidden)
		fmt.Fprintf(&out, verb+"\n", []any{s, &s})
	}
	fmt.Fprintln(&out, s, &s, hidden, fmt.Errorf("mint: %v", s))
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("secret", "s", s, "p", &s, "hidden", hidden, slog.Group("g", "s", s))
	}
	for _, v := range []any{s, &s, hidden, map[string]Secret{"k": s}} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
	}
	for _, leak := range []string{text, fmt.Sprintf("%x", text), fmt.Sprintf("%X", text), fmt.Sprintf("% x", text), fmt.Sprint([]byte(text))} {
		if i := strings.Index(out.String(), leak); i >= 0 {
			t.Errorf("%q is printed: …%s", leak, out.String()[max(0, i-60):i+len(leak)])
		}
	}
	if got := fmt.Sprintf("%v %+v %#v %s %q %x", s, s, s, s, s, s); got != strings.TrimSpace(strings.Repeat("[secret] ", 6)) {
		t.Errorf("a secret prints as %s", got)
	}
}

func TestSecretIsRevealed(t *testing.T) {
	s := NewSecret("hunter2")
	if s.Reveal() != "hunter2" || s.Empty() || !s.Equal(NewSecret("hunter2")) || s.Equal(NewSecret("hunter3")) || s.Equal(Secret{}) {
		t.Errorf("secret is not what it was made from")
	}
	for _, none := range []Secret{{}, NewSecret("")} {
		if none.Reveal() != "" || !none.Empty() || !none.Equal(Secret{}) {
			t.Errorf("an empty secret is not empty")
		}
	}
}

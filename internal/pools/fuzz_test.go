package pools

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// FuzzParse holds that any file ends in bounded time, with a configuration or
// with errors, and that what is accepted is what the daemon may rely on.
func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	for _, src := range exampleFiles(f) {
		f.Add(src)
	}
	for _, in := range hostile {
		if len(in.src) < 4000 {
			f.Add([]byte(head + in.src))
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		start := time.Now()
		got, diags := Parse(map[string][]byte{"fuzz.hcl": src})
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("took %s", took)
		}
		if err := diags.WriteText(io.Discard, 80, true); err != nil {
			t.Error(err)
		}
		if data, err := diags.MarshalJSON(); err != nil || !utf8.Valid(data) {
			t.Errorf("marshal: %v", err)
		}
		if strings.Contains(diags.Error(), fault) {
			t.Error(diags.Error())
		}
		if diags.HasErrors() {
			if len(got.Pools) > 0 || diags.Error() == "" {
				t.Errorf("errors %q come with pools %v", diags.Error(), got.Pools)
			}
			return
		}
		for _, p := range got.Pools {
			checkPool(t, p)
		}
	})
}

// checkPool is what a fleet.Pool promises.
func checkPool(t *testing.T, p fleet.Pool) {
	t.Helper()
	for what, ok := range map[string]bool{
		"name":     p.Name != "" && len(p.Name) <= fleet.MaxPoolName,
		"scope":    p.Scope != "" && strings.Count(string(p.Scope), "/") <= 1,
		"labels":   len(p.Labels) > 0,
		"template": p.Template.Family != "",
		"max":      p.Max > 0 && p.Spare >= 0 && p.Spare <= p.Max,
		"timeouts": min(p.Timeouts.Clone, p.Timeouts.Launch, p.Timeouts.Register, p.Timeouts.Idle, p.Timeouts.Job) > 0,
		"retry":    p.Retry.Min > 0 && p.Retry.Min <= p.Retry.Max && p.Retry.Attempts > 0,
		"network":  p.Network.Bridge != "" || p.Network == fleet.Network{},
		"env":      p.Env.Check() == nil,
	} {
		if !ok {
			t.Errorf("pool %+v breaks the rule about %s", p, what)
		}
	}
	for _, l := range p.Labels {
		if l == "" || len(l) > 100 || strings.ContainsAny(l, ", \t\n\"") {
			t.Errorf("pool %s has label %q", p.Name, l)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(Set{Revision: "r", Files: exampleFiles(f)}))
	f.Add([]byte(`{"format":1,"files":{"a.hcl":"e30="}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := Decode(data)
		if err == nil && len(set.Files) == 0 {
			t.Error("decoded a set without files")
		}
	})
}

// FuzzWeigh gives arbitrary packs to the check that stands before go-git.
func FuzzWeigh(f *testing.F) {
	f.Add([]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x00"))
	f.Add(onePack(0x70, 20, bytes.Repeat([]byte{0xff}, 12)))
	f.Fuzz(func(t *testing.T, pack []byte) {
		_ = weigh(pack) // no panic, and no more memory than maxInflated
	})
}

// onePack is a pack of one object, without its checksum.
func onePack(kind byte, size int, content []byte) []byte {
	pack := binary.BigEndian.AppendUint32([]byte("PACK"), 2)
	pack = binary.BigEndian.AppendUint32(pack, 1)
	first := kind | byte(size&0x0f)
	for size >>= 4; size > 0; size >>= 7 {
		pack = append(pack, first|0x80)
		first = byte(size & 0x7f)
	}
	pack = append(pack, first)
	if kind == 0x70 { // a delta names its base
		pack = append(pack, make([]byte, 20)...)
	}
	return append(pack, deflate(content)...)
}

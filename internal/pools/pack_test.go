package pools

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"strings"
	"testing"
)

func deflate(content []byte) []byte {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = w.Write(content) // a buffer does not fail
	_ = w.Close()
	return b.Bytes()
}

func TestPacksAreWeighedBeforeTheyAreUnpacked(t *testing.T) {
	many := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), maxObjects+1)
	delta := binary.AppendUvarint(binary.AppendUvarint(nil, 100), maxInflated+1) // base and result sizes
	for name, test := range map[string]struct {
		pack []byte
		want string
	}{
		"blob":          {onePack(0x30, 3, []byte("abc")), ""},
		"no pack":       {[]byte("hello"), "read header"},
		"objects":       {many, "objects, more than"},
		"declared size": {onePack(0x30, maxInflated+1, []byte("abc")), "objects have more than"},
		"longer":        {onePack(0x30, 3, bytes.Repeat([]byte{0}, 1<<20)), "inflate object"},
		"delta":         {onePack(0x70, len(delta), delta), "objects have more than"},
		"delta size":    {onePack(0x70, 12, bytes.Repeat([]byte{0xff}, 12)), "size too large"},
		"short delta":   {onePack(0x70, 1, []byte{5}), "read delta"},
		"cut":           {onePack(0x30, 3, []byte("abc"))[:15], "inflate object"},
	} {
		err := weigh(test.pack)
		if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

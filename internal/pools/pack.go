package pools

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// What a pack may become. zlib shrinks a thousandfold and a delta may copy its
// base thousands of times, so that 16 MiB of pack can be many gigabytes of
// objects; go-git's parser would hold them all.
const (
	maxInflated = 64 << 20
	maxObjects  = 100_000
)

// weigh reads a pack without keeping anything and reports if its objects are
// too many or too large.
func weigh(pack []byte) error {
	scanner := packfile.NewScanner(bytes.NewReader(pack))
	_, count, err := scanner.Header()
	if err != nil {
		return fmt.Errorf("read header: %w", err)
	}
	if count > maxObjects {
		return fmt.Errorf("it has %d objects, more than %d", count, maxObjects)
	}
	total := int64(0)
	for range count {
		size, err := objectSize(scanner)
		if err != nil {
			return err
		}
		if total += size; size > maxInflated || total > maxInflated {
			return fmt.Errorf("its objects have more than %d bytes", maxInflated)
		}
	}
	return nil
}

// objectSize is the size of the next object, and of what it unpacks to if it
// is a delta.
func objectSize(scanner *packfile.Scanner) (int64, error) {
	header, err := scanner.NextObjectHeader()
	if err != nil {
		return 0, fmt.Errorf("read object: %w", err)
	}
	if header.Length > maxInflated {
		return header.Length, nil // not worth inflating
	}
	start := &prefixWriter{}
	if _, _, err := scanner.NextObject(start); err != nil { // bounded by header.Length
		return 0, fmt.Errorf("inflate object: %w", err)
	}
	if header.Type != plumbing.OFSDeltaObject && header.Type != plumbing.REFDeltaObject {
		return header.Length, nil
	}
	head := bytes.NewReader(start.kept)
	if _, err := varint(head); err != nil { // the base's size
		return 0, err
	}
	target, err := varint(head)
	return header.Length + target, err
}

// varint reads a size as deltas have it: seven bits a byte, lowest first.
func varint(r io.ByteReader) (int64, error) {
	var n int64
	for shift := 0; shift < 63; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, fmt.Errorf("read delta: %w", err)
		}
		n |= int64(b&0x7f) << shift
		if b&0x80 == 0 {
			return n, nil
		}
	}
	return 0, fmt.Errorf("read delta: size too large")
}

// prefixWriter keeps the first bytes: two varints fit.
type prefixWriter struct{ kept []byte }

func (w *prefixWriter) Write(p []byte) (int, error) {
	const enough = 20
	if room := enough - len(w.kept); room > 0 {
		w.kept = append(w.kept, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

// tail keeps the last lines a server writes to standard error.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const most = 1024
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-most):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

//go:build linux

package lab

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
)

// Tarball makes a runner's tarball in the shape of the real one, and its
// sha256. The program is internal/sim/runner, built.
func Tarball(program, version string) (data []byte, sum string, err error) {
	binary, err := os.ReadFile(program)
	if err != nil {
		return nil, "", fmt.Errorf("make runner's tarball: %w", err)
	}
	var b bytes.Buffer
	zip, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, "", err
	}
	w := tar.NewWriter(zip)
	script := []byte("#!/bin/bash\nexec \"$(dirname \"$0\")/bin/Runner.Listener\" run \"$@\"\n")
	for _, f := range []struct {
		name string
		mode int64
		data []byte
		link string
	}{
		{name: "./bin/", mode: 0o755}, {name: "./externals/node20/bin/", mode: 0o755}, {name: "./externals/node24/bin/", mode: 0o755},
		{name: "./bin/Runner.Listener", mode: 0o755, data: binary},
		{name: "./bin/Runner.Worker", link: "./bin/Runner.Listener", mode: 0o755},
		{name: "./bin/version", mode: 0o644, data: []byte(version + "\n")},
		{name: "./run.sh", mode: 0o755, data: script}, {name: "./env.sh", mode: 0o755, data: []byte("#!/bin/bash\n")},
	} {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg, Uid: 1001, Gid: 1001}
		switch {
		case f.link != "":
			h.Typeflag, h.Linkname = tar.TypeLink, f.link
		case f.data == nil:
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, "", err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, "", err
		}
	}
	if err := w.Close(); err != nil {
		return nil, "", err
	}
	if err := zip.Close(); err != nil {
		return nil, "", err
	}
	digest := sha256.Sum256(b.Bytes())
	return b.Bytes(), hex.EncodeToString(digest[:]), nil
}

package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

const plugin = "packer-plugin-dayfly"

// platforms are where packer runs that builds on Proxmox: a build needs the
// network only, so it may start at a desk.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"}

// release is one release of the plugin.
type release struct {
	version   string // "v1.2.3"
	dir       string
	platforms []string
	build     []string // flags of go build
	tmp       string   // of the binaries
}

// description is what "describe" prints, as far as names depend on it.
type description struct {
	Version string `json:"version"`
	API     string `json:"api_version"` // "x5.0"
}

// tag has no pre-release: packer passes those over when it installs.
var tag = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$`)

func (r release) make(ctx context.Context) error {
	if !tag.MatchString(r.version) {
		return fmt.Errorf("version %q: want vX.Y.Z, without a pre-release", r.version)
	}
	if err := errors.Join(os.RemoveAll(r.dir), os.MkdirAll(r.dir, 0o755)); err != nil {
		return fmt.Errorf("make release folder: %w", err)
	}
	tmp, err := os.MkdirTemp("", "dayfly-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	r.tmp = tmp
	about, err := r.describe(ctx)
	if err != nil {
		return err
	}
	var sums []string
	for _, platform := range r.platforms {
		sum, err := r.archive(ctx, about, platform)
		if err != nil {
			return fmt.Errorf("release for %s: %w", platform, err)
		}
		sums = append(sums, sum)
	}
	slices.Sort(sums)
	return errors.Join(
		r.write("SHA256SUMS", []byte(strings.Join(sums, ""))),
		r.write("manifest.json", manifest(about)),
	)
}

// describe builds the plugin for this machine and asks it what it is. Packer
// does the same before it installs it.
func (r release) describe(ctx context.Context) (description, error) {
	binary, err := r.compile(ctx, runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return description{}, err
	}
	out, err := exec.CommandContext(ctx, binary, "describe").Output()
	if err != nil {
		return description{}, fmt.Errorf("describe the plugin: %w", err)
	}
	var d description
	if err := json.Unmarshal(out, &d); err != nil {
		return description{}, fmt.Errorf("describe the plugin: %w", err)
	}
	if "v"+d.Version != r.version {
		return description{}, fmt.Errorf("the plugin says that it is version %s, want %s", d.Version, r.version[1:])
	}
	return d, nil
}

// alike are the flags that keep out what differs between machines: paths and
// the state of a working tree.
var alike = []string{"-trimpath", "-buildvcs=false"}

// compile builds the plugin, once.
func (r release) compile(ctx context.Context, system, arch string) (string, error) {
	to := filepath.Join(r.tmp, system+"_"+arch)
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	flags := "-s -w -buildid= -X main.Version=" + r.version[1:] + " -X main.Prerelease="
	args := append(append([]string{"build"}, r.build...), "-ldflags", flags, "-o", to, "github.com/dayfly-ci/dayfly/plugin")
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, bytes.TrimSpace(out))
	}
	return to, nil
}

// archive writes the archive for a platform and returns its line of the sums.
func (r release) archive(ctx context.Context, about description, platform string) (string, error) {
	system, arch, ok := strings.Cut(platform, "/")
	if !ok {
		return "", errors.New("want OS/ARCHITECTURE")
	}
	binary, err := r.compile(ctx, system, arch)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(binary)
	if err != nil {
		return "", err
	}
	name := strings.Join([]string{plugin, r.version, about.API, system, arch}, "_")
	packed, err := pack(name, text)
	if err != nil {
		return "", err
	}
	sum := fmt.Sprintf("%x  %s.zip\n", sha256.Sum256(packed), name)
	return sum, os.WriteFile(filepath.Join(r.dir, name+".zip"), packed, 0o644)
}

// pack makes an archive of one program.
func pack(name string, text []byte) ([]byte, error) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	h.SetMode(0o755)
	f, err := w.CreateHeader(h)
	if err == nil {
		_, err = f.Write(text)
	}
	err = errors.Join(err, w.Close())
	return out.Bytes(), err
}

// write writes one of the files that go with the archives.
func (r release) write(name string, text []byte) error {
	return os.WriteFile(filepath.Join(r.dir, plugin+"_"+r.version+"_"+name), text, 0o644)
}

// manifest names the protocol, as registries of plugins want it. It is not
// among the sums: an older packer takes every name there for an archive's.
func manifest(about description) []byte {
	text, err := json.MarshalIndent(map[string]any{
		"version":  1,
		"metadata": map[string]any{"protocol_version": strings.TrimPrefix(about.API, "x")},
	}, "", "  ")
	if err != nil { // strings and numbers only
		panic(err)
	}
	return append(text, '\n')
}

package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dayfly-ci/dayfly/test/packertool"
)

const testVersion = "v7.8.9"

var (
	made    sync.Once
	madeDir string
)

func TestMain(m *testing.M) {
	code := m.Run()
	if madeDir != "" {
		_ = os.RemoveAll(madeDir)
	}
	os.Exit(code)
}

// releaseHere makes a release for this machine, once. Its build is the one that
// other tests use, which the cache has.
func releaseHere(t *testing.T) string {
	t.Helper()
	made.Do(func() {
		dir, err := os.MkdirTemp("", "dayfly-release-test-")
		if err != nil {
			t.Fatal(err)
		}
		madeDir = dir
		r := release{version: testVersion, dir: filepath.Join(dir, "release"), platforms: []string{here()}}
		if err := r.make(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	dir := filepath.Join(madeDir, "release")
	if _, err := os.Stat(filepath.Join(dir, plugin+"_"+testVersion+"_manifest.json")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func here() string { return runtime.GOOS + "/" + runtime.GOARCH }

// binaryHere is the program in the archive, and its name.
func binaryHere() string {
	return plugin + "_" + testVersion + "_x5.0_" + runtime.GOOS + "_" + runtime.GOARCH
}

func TestReleaseHasTheNamesThatPackerLooksFor(t *testing.T) {
	dir := releaseHere(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	want := []string{
		plugin + "_" + testVersion + "_SHA256SUMS", plugin + "_" + testVersion + "_manifest.json", binaryHere() + ".zip",
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSumsAreThoseOfTheArchives(t *testing.T) {
	dir := releaseHere(t)
	archive, err := os.ReadFile(filepath.Join(dir, binaryHere()+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, plugin+"_"+testVersion+"_SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%x  %s.zip\n", sha256.Sum256(archive), binaryHere()); string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestArchiveHoldsTheProgramAlone(t *testing.T) {
	r, err := zip.OpenReader(filepath.Join(releaseHere(t), binaryHere()+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if len(r.File) != 1 || r.File[0].Name != binaryHere() || r.File[0].Mode() != 0o755 {
		t.Fatalf("got %v, want one file %s with mode 0755", r.File, binaryHere())
	}
}

func TestManifestNamesTheProtocol(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(releaseHere(t), plugin+"_"+testVersion+"_manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Version  int
		Metadata struct {
			Protocol string `json:"protocol_version"`
		}
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	if m.Version != 1 || m.Metadata.Protocol != "5.0" {
		t.Errorf("got %+v, want version 1, protocol 5.0", m)
	}
}

// The whole release is built, and two platforms of it once more from nothing,
// this one and a foreign one, which takes minutes. The sums of the archives are
// compared.
func TestReleaseIsReproducible(t *testing.T) {
	if os.Getenv("DAYFLY_RELEASE") != "all" {
		t.Skip("builds for every platform: set DAYFLY_RELEASE=all")
	}
	foreign := slices.DeleteFunc(slices.Clone(platforms), func(p string) bool { return p == here() })
	whole := sums(t, platforms)
	t.Setenv("GOCACHE", t.TempDir())
	again := sums(t, []string{here(), foreign[0]})
	if len(whole) != len(platforms) || len(again) != 2 {
		t.Fatalf("got the sums %q and %q, want those of %d archives and of 2", whole, again, len(platforms))
	}
	for _, line := range again {
		if !slices.Contains(whole, line) {
			t.Errorf("the second build has %s, the first %q", line, whole)
		}
	}
}

// sums makes a release, and returns the lines of its SHA256SUMS.
func sums(t *testing.T, platforms []string) []string {
	t.Helper()
	r := release{version: testVersion, dir: t.TempDir(), platforms: platforms, build: alike}
	if err := r.make(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(r.dir, plugin+"_"+testVersion+"_SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func TestArchiveIsReproducible(t *testing.T) {
	text := unpack(t, filepath.Join(releaseHere(t), binaryHere()+".zip"))
	got, err := pack(binaryHere(), text)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(releaseHere(t), binaryHere()+".zip"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the same program, packed twice, gives two archives (%v)", err)
	}
}

func TestVersionThatPackerPassesOverIsRefused(t *testing.T) {
	for _, version := range []string{"", "1.2.3", "v1.2", "v1.2.3-rc1", "v01.2.3", "v1.2.3+x", "v1.2.3\n"} {
		dir := filepath.Join(t.TempDir(), "out")
		if err := (release{version: version, dir: dir}).make(t.Context()); err == nil {
			t.Errorf("%q: got no error", version)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%q: the folder was made", version)
		}
	}
}

const initTemplate = `packer {
  required_plugins {
    dayfly = {
      version = ">= 7.0.0"
      source  = "` + packertool.Source + `"
    }
  }
}
`

// packer init finds the release among the repository's tags, compares the sum,
// unpacks the program and asks it for its version; all of it for real, against
// a GitHub on a loopback socket.
func TestPackerInitInstallsTheRelease(t *testing.T) {
	home := packertool.New(t)
	hub := openHub(t, releaseHere(t), testVersion)
	file := filepath.Join(t.TempDir(), "x.pkr.hcl")
	if err := os.WriteFile(file, []byte(initTemplate), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := home.Command(t.Context(), "init", file)
	cmd.Env = append(cmd.Env, hub.env()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("packer init: %v\n%s\nasked for %q", err, out, hub.asked())
	}
	installed := filepath.Join(home.Plugins(), filepath.FromSlash(packertool.Source), binaryHere())
	got, err := os.ReadFile(installed)
	if err != nil {
		t.Fatal(err)
	}
	if want := unpack(t, filepath.Join(releaseHere(t), binaryHere()+".zip")); !bytes.Equal(got, want) {
		t.Error("what packer installed is not what the archive holds")
	}
	out, err := home.Command(t.Context(), "plugins", "installed").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != installed {
		t.Errorf("installed plugins: got %q, %v, want %s", out, err, installed)
	}
}

func TestPackerInitRefusesAnArchiveWithAnotherSum(t *testing.T) {
	home := packertool.New(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(releaseHere(t))); err != nil {
		t.Fatal(err)
	}
	other, err := pack(binaryHere(), []byte("#!/bin/sh\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, binaryHere()+".zip"), other, 0o644); err != nil {
		t.Fatal(err)
	}
	hub := openHub(t, dir, testVersion)
	file := filepath.Join(t.TempDir(), "x.pkr.hcl")
	if err := os.WriteFile(file, []byte(initTemplate), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := home.Command(t.Context(), "init", file)
	cmd.Env = append(cmd.Env, hub.env()...)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "did not match") {
		t.Errorf("got %v, want a refusal because of the sum\n%s", err, out)
	}
}

func unpack(t *testing.T, path string) []byte {
	t.Helper()
	r, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := r.File[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

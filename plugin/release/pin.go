package release

import (
	"fmt"
	"regexp"
	"slices"
)

// Version is the runner that is installed when no version is named.
const Version = "2.337.0"

// pins are the sha256 of tarballs, by version and architecture, as the
// release notes give them. A pin makes a build repeatable and needs no
// network.
var pins = map[string]map[string]string{
	"2.337.0": {
		"x64":   "70920811a4f8ad4328818682bca5c6469c1c942fab52448868071d0063816613",
		"arm64": "9b1dc70626422526e3c94767cf024896beb15da5342a3f4819bf2feac13e0393",
	},
	"2.335.1": {"x64": "4ef2f25285f0ae4477f1fe1e346db76d2f3ebf03824e2ddd1973a2819bf6c8cf"},
}

// Architectures are those that the runner is published for on Linux.
var Architectures = []string{"x64", "arm64", "arm"}

var (
	versionForm = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+$`)
	sumForm     = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Pinned is the sha256 of a version that this plugin knows, or nothing.
func Pinned(version, arch string) string { return pins[version][arch] }

// ValidVersion reports whether s is a version like "2.335.1".
func ValidVersion(s string) bool { return versionForm.MatchString(s) }

// ValidSHA256 reports whether s is a sha256 in lower-case hex.
func ValidSHA256(s string) bool { return sumForm.MatchString(s) }

// ValidArchitecture reports whether the runner exists for arch.
func ValidArchitecture(arch string) bool { return slices.Contains(Architectures, arch) }

// Tarball is the name of the file that a release has for an architecture.
func Tarball(version, arch string) string {
	return fmt.Sprintf("actions-runner-linux-%s-%s.tar.gz", arch, version)
}

// URL is where GitHub serves a tarball.
func URL(version, arch string) string {
	return "https://github.com/actions/runner/releases/download/v" + version + "/" + Tarball(version, arch)
}

package guest

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dayfly-ci/dayfly/test/root"
)

// repository is a signed apt repository like Docker's own, with packages that
// hold nothing.
type repository struct {
	t      *testing.T
	dir    string // what is served
	home   string // of gpg
	server *httptest.Server
	base   string // ".../linux"
	system string // debian/dists/trixie, as the guest's os-release has it
}

func newRepository(t *testing.T, g *root.Root) *repository {
	t.Helper()
	for _, program := range []string{"gpg", "dpkg-deb", "dpkg-scanpackages", "apt-get", "curl", "jq"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("Docker's repository is played with real packages and signatures: %v", err)
		}
	}
	home, err := os.MkdirTemp("", "gpg") // its sockets want a short path
	if err != nil {
		t.Fatal(err)
	}
	r := &repository{t: t, dir: t.TempDir(), home: home}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	r.server = httptest.NewServer(http.FileServer(http.Dir(r.dir)))
	t.Cleanup(r.server.Close)
	r.base = r.server.URL + "/linux"
	r.system = g.Must(`. /etc/os-release; echo "$ID $VERSION_CODENAME"`)
	r.key("Docker")
	r.publish("Docker", "28.5.10", "28.5.1", "29.0.0")
	return r
}

// run runs a command in the folder of the distribution.
func (r *repository) run(script string) string {
	r.t.Helper()
	id, _, _ := strings.Cut(r.system, " ")
	dir := filepath.Join(r.dir, "linux", id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command("/bin/bash", "-euc", script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GNUPGHOME="+r.home)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%.300s: %v: %s", script, err, out)
	}
	return string(out)
}

// key makes a signing key, and gives it out.
func (r *repository) key(name string) {
	r.run(`gpg --batch --quiet --passphrase '' --quick-generate-key '` + name + ` <` + name + `@example.org>' ed25519 sign never
[ -e gpg ] || gpg --batch --armor --export ` + name + ` >gpg`)
}

// publish fills the repository and signs it. Versions are those of docker-ce;
// the other packages have one.
func (r *repository) publish(signer string, versions ...string) {
	_, codename, _ := strings.Cut(r.system, " ")
	var packages []string
	for _, v := range versions {
		packages = append(packages, "docker-ce 5:"+v+"-1", "docker-ce-cli 5:"+v+"-1")
	}
	for _, name := range []string{"containerd.io", "docker-buildx-plugin", "docker-compose-plugin", "apparmor"} {
		packages = append(packages, name+" 9.9")
	}
	r.run(`rm -rf pool dists; mkdir -p pool build dists/` + codename + `/stable/binary-$(dpkg --print-architecture)
while read -r name version; do
	rm -rf build/p; mkdir -p build/p/DEBIAN
	printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: nobody\nDescription: nothing\n' "$name" "$version" >build/p/DEBIAN/control
	printf '#!/bin/sh\ngroupadd --force docker\n' >build/p/DEBIAN/postinst; chmod 755 build/p/DEBIAN/postinst
	dpkg-deb -Znone --root-owner-group -b build/p "pool/${name}_${version#*:}.deb" >/dev/null
done <<END
` + strings.Join(packages, "\n") + `
END
list=stable/binary-$(dpkg --print-architecture)/Packages
dpkg-scanpackages --multiversion pool 2>/dev/null >dists/` + codename + `/$list
cd dists/` + codename + `
{
	printf 'Origin: Docker\nSuite: %s\nCodename: %s\nComponents: stable\nArchitectures: %s\nDate: %s\nSHA256:\n' ` + codename + ` ` + codename + ` "$(dpkg --print-architecture)" "$(LC_ALL=C date -Ru)"
	printf ' %s %s %s\n' "$(sha256sum <$list | cut -d' ' -f1)" "$(stat -c %s $list)" "$list"
} >Release
gpg --batch --quiet --yes --local-user ` + signer + ` --clear-sign --output InRelease Release`)
}

// fromDocker is a guest whose apt is real and knows no other repository, and a
// run of the step docker.sh in it.
func fromDocker(t *testing.T) (*root.Root, *repository, func(params ...string) (string, int)) {
	t.Helper()
	g := guestRoot(t)
	r := newRepository(t, g)
	g.Must(`rm -rf /etc/apt/sources.list /etc/apt/sources.list.d /var/lib/apt/lists; mkdir -p /etc/apt/sources.list.d /var/lib/apt/lists/partial /var/lib/docker
echo 'Acquire::http::Proxy::127.0.0.1 "DIRECT"; Acquire::Retries "0"; DPkg::Options { "--force-unsafe-io"; };' >/etc/apt/apt.conf.d/99test
mount -t tmpfs docker /var/lib/docker; dpkg --purge --force-all docker-ce docker-ce-cli containerd.io docker-buildx-plugin docker-compose-plugin >/dev/null 2>&1; true`)
	g.Stub("systemctl", "")
	g.Stub("docker", `case $1 in
info) jq -r '."storage-driver"' /etc/docker/daemon.json;;
version) dpkg-query -W -f='${Version}' docker-ce;;
import) tar -t >/dev/null;;
run) case "$*" in *dayfly-proof:upper*) echo works;; esac;;
esac`)
	return g, r, func(params ...string) (string, int) {
		params = append([]string{"DAYFLY_USER=root", "DAYFLY_DOCKER_SOURCE=docker", "DAYFLY_DOCKER_REPOSITORY=" + r.base}, params...)
		g.Write("/guest/params", strings.Join(params, "\n")+"\n", 0o600)
		return g.Run("bash /guest/docker.sh")
	}
}

func TestDockerFromItsOwnRepository(t *testing.T) {
	g, r, run := fromDocker(t)
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(r.run("cat gpg"))))
	if out, code := run("DAYFLY_DOCKER_KEY_SHA256=" + sum); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	id, codename, _ := strings.Cut(r.system, " ")
	for command, want := range map[string]string{
		"dpkg-query -W -f='${Version} ' containerd.io docker-ce docker-ce-cli": "9.9 5:29.0.0-1 5:29.0.0-1",
		"sha256sum </etc/apt/keyrings/docker.asc | cut -d' ' -f1":              sum,
		"stat -c %a /etc/apt/keyrings/docker.asc":                              "644",
		"cat /etc/apt/sources.list.d/docker.sources": "Types: deb\nURIs: " + r.base + "/" + id + "\nSuites: " + codename +
			"\nComponents: stable\nArchitectures: " + g.Must("dpkg --print-architecture") + "\nSigned-By: /etc/apt/keyrings/docker.asc",
	} {
		if got := g.Must(command); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", command, got, want)
		}
	}
	before := g.Tree("/etc", "/var/lib/dpkg/info", "/usr/lib/dayfly")
	if out, code := run("DAYFLY_DOCKER_KEY_SHA256=" + sum); code != 0 || strings.Contains(out, "install ") {
		t.Errorf("again: %d: %s", code, out)
	}
	if after := g.Tree("/etc", "/var/lib/dpkg/info", "/usr/lib/dayfly"); after != before {
		t.Error("the second run changed files")
	}
	// A pin is kept: it goes back, takes no longer version for it, and stays.
	for range 2 {
		if out, code := run("DAYFLY_DOCKER_VERSION=28.5.1"); code != 0 {
			t.Fatalf("pinned: %d: %s", code, out)
		}
		if got := g.Must("dpkg-query -W -f='${Version} ' docker-ce docker-ce-cli"); got != "5:28.5.1-1 5:28.5.1-1" {
			t.Errorf("pinned to 28.5.1: %s", got)
		}
	}
}

func TestDockersRepositoryIsNotTrustedBlindly(t *testing.T) {
	g, r, run := fromDocker(t)
	r.key("Mallory")
	r.run("cp -a . ../../good")
	for name, c := range map[string]struct {
		spoil  func(*repository)
		params string
		want   string
	}{
		"another key":        {nil, "DAYFLY_DOCKER_KEY_SHA256=" + strings.Repeat("0", 64), "error: Docker's signing key has sha256 "},
		"no key":             {func(r *repository) { r.run("rm gpg") }, "", "error: fetch Docker's signing key from "},
		"signed by another":  {func(r *repository) { r.publish("Mallory", "29.0.0") }, "", "error: fetch package lists: E: "},
		"not signed":         {func(r *repository) { r.run("rm dists/*/InRelease") }, "", "error: fetch package lists: E: "},
		"another list":       {func(r *repository) { r.run("echo >>$(ls dists/*/stable/*/Packages)") }, "", "error: fetch package lists: E: "},
		"another package":    {func(r *repository) { r.run("for f in pool/*; do echo >>$f; done") }, "", "error: install packages docker-ce "},
		"no such version":    {nil, "DAYFLY_DOCKER_VERSION=28.5", "error: Docker 28.5 is not in "},
		"no distribution":    {func(r *repository) { r.run("rm -r dists") }, "", "error: fetch package lists: E: "},
		"package is missing": {func(r *repository) { r.run("rm pool/containerd.io*") }, "", "error: install packages docker-ce "},
	} {
		t.Run(name, func(t *testing.T) {
			r.run("rm -rf ./*; cp -a ../../good/. .")
			g.Must("rm -rf /etc/apt/keyrings/docker.asc /etc/apt/sources.list.d/* /var/lib/apt/lists /var/cache/apt/archives/*.deb; mkdir -p /var/lib/apt/lists/partial")
			if c.spoil != nil {
				c.spoil(r)
			}
			out, code := run(c.params)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if last := lines[len(lines)-1]; code != 1 || !strings.HasPrefix(last, c.want) {
				t.Errorf("exit code %d, the last line is %q, want %q", code, last, c.want)
			}
			if _, code := g.Run("dpkg-query -W -f='${db:Status-Status}' docker-ce 2>/dev/null | grep -q '^installed'"); code == 0 {
				t.Error("docker-ce is installed")
			}
		})
	}
}

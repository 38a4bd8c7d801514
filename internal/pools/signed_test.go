package pools

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// signer makes commits with the real git, which has them signed by the real
// ssh-keygen or gpg.
type signer struct {
	*testRepo
	home string
}

func newSigner(t *testing.T, programs ...string) *signer {
	t.Helper()
	for _, name := range append(programs, "git") {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("needs " + name)
		}
	}
	// gpg-agent's socket is in the home, and a socket's path is short.
	home, err := os.MkdirTemp("", "sign")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	s := &signer{newRepo(t), home}
	t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(home, "S.gpg-agent")); err == nil {
			s.run("", "gpgconf", "--kill", "all")
		}
	})
	return s
}

// run runs a program in the repository, away from its user's own settings.
func (s *signer) run(in string, name string, args ...string) string {
	s.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdin = s.dir, strings.NewReader(in)
	cmd.Env = append(os.Environ(), "HOME="+s.home, "GNUPGHOME="+s.home, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// sshKey makes a key with ssh-keygen, and returns its file and public half.
func (s *signer) sshKey(args ...string) (file, public string) {
	s.Helper()
	file = filepath.Join(s.T.TempDir(), "key")
	s.run("", "ssh-keygen", append([]string{"-q", "-N", "", "-C", "", "-f", file}, args...)...)
	text, err := os.ReadFile(file + ".pub")
	s.must(err)
	return file, strings.TrimSpace(string(text))
}

// signed puts a commit of files on main that git signs as the settings say.
func (s *signer) signed(message string, settings []string, files map[string]string, parents ...plumbing.Hash) plumbing.Hash {
	s.Helper()
	var args []string
	for _, c := range settings {
		args = append(args, "-c", c)
	}
	args = append(args, "commit-tree", "-S", s.files(files).String())
	for _, p := range parents {
		args = append(args, "-p", p.String())
	}
	id := plumbing.NewHash(s.run(message, "git", args...))
	s.must(s.repo.Storer.SetReference(plumbing.NewHashReference("refs/heads/main", id)))
	return id
}

func byKey(file string) []string { return []string{"gpg.format=ssh", "user.signingkey=" + file} }

// allow writes an allowed_signers file.
func allow(t *testing.T, lines ...string) Verify {
	t.Helper()
	return Verify{Mode: VerifyHead, Signers: writeFile(t, "allowed_signers", 0o644, []byte(strings.Join(lines, "\n")+"\n"))}
}

// ruling loads the tip, and returns who signed it or why it is refused.
func ruling(t *testing.T, c GitConfig, known Known) (string, string) {
	t.Helper()
	set, err := Git(c).Load(t.Context(), known)
	var invalid *Invalid
	if err != nil && !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	if err != nil {
		return "", err.Error()
	}
	return set.Signer, ""
}

func TestCommitsSignedWithSSHAreObeyed(t *testing.T) {
	for name, args := range map[string][]string{
		"ed25519": {"-t", "ed25519"}, "ecdsa": {"-t", "ecdsa"}, "rsa": {"-t", "rsa", "-b", "2048"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigner(t, "ssh-keygen")
			file, public := s.sshKey(args...)
			s.signed("pools: signed\n\nWith a body.\n", byKey(file), minimal("3"))
			c := s.overSSH()
			c.Verify = allow(t, "# people", "", "jane@acme.example "+public)
			if who, why := ruling(t, c, Known{}); who != "jane@acme.example" {
				t.Errorf("got signer %q, refused because %q", who, why)
			}
		})
	}
}

func TestSignaturesThatProveNothingAreRefused(t *testing.T) {
	s := newSigner(t, "ssh-keygen")
	file, public := s.sshKey("-t", "ed25519")
	_, other := s.sshKey("-t", "ed25519")
	good := s.signed("good", byKey(file), minimal("3"))
	c := GitConfig{URL: s.dir, Branch: "main", Path: "pools"}
	for name, test := range map[string]struct {
		line string
		want string
	}{
		"another key":        {"jane " + other, "key that is not allowed, SHA256:"},
		"another namespace":  {`jane namespaces="file" ` + public, "allowed for namespaces file, not for git"},
		"expired":            {`jane valid-before="20200101Z" ` + public, "was valid until 2020-01-01T00:00:00Z"},
		"not yet valid":      {`jane valid-after="20900101Z" ` + public, "valid from 2090-01-01T00:00:00Z only"},
		"git among others":   {`jane namespaces="file,g*" ` + public, ""},
		"valid now":          {`jane valid-after="20200101",valid-before="209001010000" ` + public, ""},
		"principal in quote": {`"jane doe" ` + public, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.Verify = allow(t, test.line)
			who, why := ruling(t, c, Known{})
			if (who == "") != (test.want != "") || !strings.Contains(why, test.want) {
				t.Errorf("got signer %q, refused because %q, want %q", who, why, test.want)
			}
		})
	}
	c.Verify = allow(t, "jane "+public)
	text := s.raw(good)
	for name, test := range map[string]struct{ text, want string }{
		"no signature":   {unsignedText(text), "is not signed"},
		"other message":  {strings.Replace(text, "good", "evil", 1), "does not fit"},
		"other tree":     {strings.Replace(text, "tree "+s.treeOf(good), "tree "+s.files(minimal("9")).String(), 1), "does not fit"},
		"two signatures": {strings.Replace(text, "gpgsig ", "gpgsig -----BEGIN SSH SIGNATURE-----\ngpgsig ", 1), "more than one signature"},
		"a second tree":  {strings.Replace(text, "gpgsig ", "tree "+s.files(minimal("9")).String()+"\ngpgsig ", 1), "not written as git writes"},
		"not ours":       {strings.Replace(text, "BEGIN SSH SIGNATURE", "BEGIN SIGNED MESSAGE", 1), "neither SSH's nor OpenPGP's"},
		"cut short":      {strings.Replace(text, " -----END SSH SIGNATURE-----", " ", 1), "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			s.put(test.text)
			_, err := Git(c).Load(t.Context(), Known{})
			if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, fleet.ErrInvalid) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func (s *signer) raw(id plumbing.Hash) string {
	return strings.TrimPrefix(s.run("", "git", "cat-file", "commit", id.String())+"\n", "\n")
}

func (s *signer) treeOf(id plumbing.Hash) string {
	return s.run("", "git", "rev-parse", id.String()+"^{tree}")
}

// put makes main a commit of that text.
func (s *signer) put(text string) plumbing.Hash {
	s.Helper()
	id := s.store(func(o plumbing.EncodedObject) error {
		o.SetType(plumbing.CommitObject)
		w, err := o.Writer()
		if err != nil {
			return err
		}
		defer w.Close()
		_, err = w.Write([]byte(text))
		return err
	})
	s.must(s.repo.Storer.SetReference(plumbing.NewHashReference("refs/heads/main", id)))
	return id
}

// unsignedText takes the signature out of a commit.
func unsignedText(text string) string {
	var kept []string
	header, message, _ := strings.Cut(text, "\n\n")
	for _, line := range strings.Split(header, "\n") {
		if !strings.HasPrefix(line, "gpgsig") && !strings.HasPrefix(line, " ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n") + "\n\n" + message
}

func TestWeakKeysAreNotTrusted(t *testing.T) {
	s := newSigner(t, "ssh-keygen")
	_, weak := s.sshKey("-t", "rsa", "-b", "1024")
	_, public := s.sshKey("-t", "ed25519")
	s.commit("main", s.files(minimal("3")))
	for line, want := range map[string]string{
		"jane " + weak:                      "1024 bits",
		"jane":                              "want PRINCIPALS",
		"jane ssh-ed25519 AAAA":             "no public key",
		"jane cert-authority " + public:     "certificates",
		"jane no-pty " + public:             `option "no-pty"`,
		`jane valid-after="soon" ` + public: `"soon" is no time`,
	} {
		_, err := Git(GitConfig{URL: s.dir, Verify: allow(t, "# first", line)}).Load(t.Context(), Known{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2") || !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%s: got %v, want %q of line 2", line, err, want)
		}
	}
	_, err := Git(GitConfig{URL: s.dir, Verify: allow(t, "")}).Load(t.Context(), Known{})
	if err == nil || !strings.Contains(err.Error(), "no key to verify") {
		t.Errorf("empty file: got %v", err)
	}
	_, err = Git(GitConfig{URL: s.dir, Verify: Verify{Mode: VerifyHead, Signers: "/nonexistent"}}).Load(t.Context(), Known{})
	if !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("no file: got %v", err)
	}
}

func TestCommitsSignedWithGPGAreObeyed(t *testing.T) {
	s := newSigner(t, "gpg")
	key := func(who, algo string) string {
		s.run("", "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", who, algo, "sign", "never")
		return writeFile(t, "keys", 0o644, []byte(s.run("", "gpg", "--armor", "--export", who)))
	}
	jane, john := key("Jane <jane@acme.example>", "ed25519"), key("John <john@acme.example>", "rsa2048")
	c := s.overHTTP()
	for who, file := range map[string]string{"Jane <jane@acme.example>": jane, "John <john@acme.example>": john} {
		s.signed("pools", []string{"gpg.format=openpgp", "user.signingkey=" + who}, minimal("3"))
		c.Verify = Verify{Mode: VerifyHead, Keyring: file}
		if got, why := ruling(t, c, Known{}); got != who {
			t.Errorf("got signer %q, refused because %q, want %q", got, why, who)
		}
	}
	id := s.signed("pools", []string{"gpg.format=openpgp", "user.signingkey=John <john@acme.example>"}, minimal("3"))
	c.Verify = Verify{Mode: VerifyHead, Keyring: jane}
	if _, why := ruling(t, c, Known{}); !strings.Contains(why, "OpenPGP key that is not allowed") {
		t.Errorf("another key: refused because %q", why)
	}
	c.Verify.Keyring = john
	s.put(strings.Replace(s.raw(id), "\n\npools", "\n\nevil", 1))
	if _, why := ruling(t, c, Known{}); !strings.Contains(why, "does not fit") {
		t.Errorf("other message: refused because %q", why)
	}
	s.run("", "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "Weak <weak@acme.example>", "rsa1024", "sign", "never")
	c.Verify.Keyring = writeFile(t, "keys", 0o644, []byte(s.run("", "gpg", "--export", "--armor", "Weak <weak@acme.example>")))
	s.signed("pools", []string{"gpg.format=openpgp", "user.signingkey=Weak <weak@acme.example>"}, minimal("3"))
	if _, why := ruling(t, c, Known{}); !strings.Contains(why, "RSA key of 1024 bits") {
		t.Errorf("weak key: refused because %q", why)
	}
}

func TestKeysThatChangeAreLookedAtAgain(t *testing.T) {
	s := newSigner(t, "ssh-keygen")
	file, public := s.sshKey("-t", "ed25519")
	_, other := s.sshKey("-t", "ed25519")
	id := s.signed("pools", byKey(file), minimal("3"))
	c := GitConfig{URL: s.dir, Branch: "main", Path: "pools", Verify: allow(t, "john "+other)}
	source := Git(c)
	known := Known{}
	if _, err := source.Load(t.Context(), known); err == nil {
		t.Fatal("an unknown key was believed")
	}
	known.Read = id.String()
	if _, err := source.Load(t.Context(), known); !errors.Is(err, ErrUnchanged) {
		t.Errorf("refused commit: got %v, want ErrUnchanged", err)
	}
	s.must(os.WriteFile(c.Verify.Signers, []byte("jane "+public+"\n"), 0o600))
	set, err := source.Load(t.Context(), known)
	if err != nil || set.Signer != "jane" {
		t.Errorf("after the key was allowed: got %v, signer %q", err, set.Signer)
	}
	// A commit that came into force before anything was verified is judged
	// once, when the daemon starts.
	s.must(os.WriteFile(c.Verify.Signers, []byte("john "+other+"\n"), 0o600))
	source = Git(c)
	known.InForce = Set{Origin: source.String(), Revision: id.String()}
	var invalid *Invalid
	if _, err := source.Load(t.Context(), known); !errors.As(err, &invalid) {
		t.Errorf("unverified commit in force: got %v, want Invalid", err)
	}
	if _, err := source.Load(t.Context(), known); !errors.Is(err, ErrUnchanged) {
		t.Errorf("unverified commit in force again: got %v, want ErrUnchanged", err)
	}
}

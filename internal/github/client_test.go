package github

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/test/openapi"
)

// testKeys are one key in the forms that people give.
var testKeys = sync.OnceValue(func() map[string]string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	block := func(kind string, der []byte, err error) string {
		if err != nil {
			panic(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	pkcs8, err8 := x509.MarshalPKCS8PrivateKey(key)
	ec8, errEC := x509.MarshalPKCS8PrivateKey(ec)
	public, errPublic := x509.MarshalPKIXPublicKey(&key.PublicKey)
	return map[string]string{
		"pkcs1":   block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), nil),
		"pkcs8":   block("PRIVATE KEY", pkcs8, err8),
		"ec":      block("PRIVATE KEY", ec8, errEC),
		"public":  block("PUBLIC KEY", public, errPublic),
		"damaged": block("RSA PRIVATE KEY", []byte("not a key"), nil),
	}
})

func TestKeysOfBothFormsAreRead(t *testing.T) {
	for _, form := range []string{"pkcs1", "pkcs8"} {
		if _, err := New(Config{App: "1", Key: fleet.NewSecret("\n" + testKeys()[form] + "\n")}); err != nil {
			t.Errorf("%s: %v", form, err)
		}
	}
}

func TestAnUnusableKeySaysWhatWasFound(t *testing.T) {
	tests := []struct{ key, found string }{
		{"", "found nothing"},
		{"c2VjcmV0 hunter2", "found no PEM block"},
		{testKeys()["public"], `found a PEM block "PUBLIC KEY"`},
		{testKeys()["damaged"], `found a damaged PEM block "RSA PRIVATE KEY"`},
		{testKeys()["ec"], "found a key of type *ecdsa.PrivateKey"},
	}
	for _, test := range tests {
		_, err := New(Config{App: "1", Key: fleet.NewSecret(test.key)})
		if !errors.Is(err, fleet.ErrInvalid) || !strings.Contains(err.Error(), test.found) ||
			!strings.Contains(err.Error(), "BEGIN RSA PRIVATE KEY") {
			t.Errorf("got %v, want %q and what is expected", err, test.found)
		}
		if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%v holds the content of the file", err)
		}
	}
}

func TestTheAddressIsCheckedAtOnce(t *testing.T) {
	tests := map[string]string{ // address → part of the error, empty if it is good
		"":                                 "",
		"https://api.github.com":           "",
		"https://ghes.acme.example/api/v3": "",
		"http://127.0.0.1:8080":            "",
		"http://[::1]:8080/":               "",
		"http://localhost:8080/":           "",
		"http://api.github.com/":           "want https",
		"ftp://api.github.com/":            "want https",
		"http://127.0.0.1.example.com/":    "want https",
		"api.github.com":                   "want a plain address",
		"https://api.github.com/?x=1":      "want a plain address",
		"https://me:pw123@api.github.com/": "want a plain address",
		"https://a b/":                     "github url",
	}
	for address, want := range tests {
		_, err := New(Config{URL: address, App: "1", Key: fleet.NewSecret(testKeys()["pkcs1"])})
		if want == "" && err != nil || want != "" && (!errors.Is(err, fleet.ErrInvalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", address, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "pw123") {
			t.Errorf("%v holds the password", err)
		}
	}
	if _, err := New(Config{Key: fleet.NewSecret(testKeys()["pkcs1"])}); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("no App id: got %v, want %v", err, fleet.ErrInvalid)
	}
}

func TestOnlyNamesGoIntoPaths(t *testing.T) {
	for _, good := range []fleet.Scope{"acme", "Acme-2", "acme_emu", "acme/app", "acme/.github", "a/b.c_d-e"} {
		if err := checkScope(good); err != nil {
			t.Errorf("%q: got %v, want none", good, err)
		}
	}
	for _, bad := range []fleet.Scope{"", "/", "acme/", "/app", "acme/..", "acme/.", "a/b/c", "acme?x=1", "acme/a%2fb", "acme/a#b", "-x", "..", "ac me"} {
		if err := checkScope(bad); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%q: got %v, want %v", bad, err, fleet.ErrInvalid)
		}
	}
}

// Every request this package can make, and the simulated GitHub's answers,
// against GitHub's own description.
func TestEveryRequestFollowsGitHubsDescription(t *testing.T) {
	if err := openapi.Missing(); err != nil {
		t.Skipf("no GitHub description: %v", err)
	}
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.receive(t)
		f.hub.AddGroup("acme", hub.Group{Name: "big"})
		f.hub.NextWebhook(hub.Fail)
		id := f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"x"}})
		pass(1)
		var failed []error
		try := func(err error) { failed = append(failed, err) }
		for _, scope := range []fleet.Scope{"acme", "acme/app"} {
			reg, _, err := f.c.JIT(ctx, scope, "n", []string{"x"}, "")
			try(err)
			_, err = f.c.Registrations(ctx, scope)
			try(err)
			_, _, err = f.c.Find(ctx, scope, "n")
			try(err)
			try(f.c.Deregister(ctx, scope, reg.ID))
			_, err = f.c.Repositories(ctx, scope)
			try(err)
			_, err = f.c.Deprecation(ctx, scope, "2.335.1")
			try(err)
			if p := f.c.Check(ctx, []fleet.Scope{scope}); len(p) != 0 {
				t.Errorf("check %s: got %v, want no problem", scope, p)
			}
		}
		_, _, err := f.c.JIT(ctx, "acme", "m", []string{"x"}, "big")
		try(err)
		_, err = f.c.Jobs(ctx, "acme/app")
		try(err)
		job, err := f.c.Job(ctx, "acme/app", fleet.JobID(id))
		try(err)
		_, err = f.c.Run(ctx, "acme/app", job.Run)
		try(err)
		_, err = f.c.Deliveries(ctx, f.hub.Deliveries()[0].At)
		try(err)
		f.c.Clock(ctx)
		if err := errors.Join(failed...); err != nil {
			t.Error(err)
		}
		f.rec.Check(t)
		const operations = 21
		if seen := f.rec.Seen(t); len(seen) != operations {
			t.Errorf("got %d operations, want %d: %v", len(seen), operations, seen)
		}
	})
}

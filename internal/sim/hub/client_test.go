package hub

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// fixture is a hub with an organisation, a repository and an installation, and
// a plain HTTP client of it.
type fixture struct {
	t     testing.TB
	h     *Hub
	in    InstallationID
	http  http.Client
	token string
	check func(*http.Request, []byte, *http.Response, []byte) // on every exchange
}

// story runs f in a bubble on a fixture made from c.
func story(t *testing.T, c Config, f func(*testing.T, *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t, newFixture(t, c))
	})
}

func newFixture(t testing.TB, c Config) *fixture {
	h := New(c)
	h.AddRepository(Repository{Name: "acme/app", Private: true})
	h.AddRepository(Repository{Name: "acme/site"})
	in := h.AddInstallation(Installation{Account: "acme"})
	f := &fixture{t: t, h: h, in: in, http: http.Client{Transport: stage.Transport{Handler: h}}}
	described(f)
	return f
}

// jwt signs claims with the App's key.
func jwt(key *rsa.PrivateKey, header string, claims map[string]any) string {
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(header)) + "." + b64(must(claims))
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return text + "." + b64(sig)
}

const rs256 = `{"alg":"RS256","typ":"JWT"}`

// appJWT is a good one.
func (f *fixture) appJWT() string {
	now := f.h.clock.Now()
	return jwt(f.h.appKey, rs256, map[string]any{
		"iss": strconv.FormatInt(f.h.appID, 10), "iat": now.Add(-time.Minute).Unix(), "exp": now.Add(9 * time.Minute).Unix(),
	})
}

// call makes one request and returns the status, the headers and the body.
func (f *fixture) call(credential, method, path string, body any) (int, http.Header, []byte) {
	f.t.Helper()
	return f.callWith(http.Header{"Authorization": {"Bearer " + credential}}, method, path, body)
}

func (f *fixture) callWith(header http.Header, method, path string, body any) (int, http.Header, []byte) {
	f.t.Helper()
	var sent []byte
	switch b := body.(type) {
	case nil:
	case string:
		sent = []byte(b)
	default:
		sent = must(b)
	}
	req, err := http.NewRequest(method, "https://api.github.com"+path, bytes.NewReader(sent))
	if err != nil {
		f.t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if sent != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := f.http.Do(req)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	if f.check != nil {
		f.check(req, sent, resp, got)
	}
	return resp.StatusCode, resp.Header, got
}

// auth mints the installation token that do uses.
func (f *fixture) auth() string {
	f.t.Helper()
	if f.token == "" {
		f.token = f.mint(nil)
	}
	return f.token
}

func (f *fixture) mint(body any) string {
	f.t.Helper()
	code, _, got := f.call(f.appJWT(), http.MethodPost, fmt.Sprintf("/app/installations/%d/access_tokens", f.in), body)
	if code != http.StatusCreated {
		f.t.Fatalf("mint token: got %d %s, want 201", code, got)
	}
	var reply struct{ Token string }
	f.decode(got, &reply)
	return reply.Token
}

// do calls with the installation token.
func (f *fixture) do(method, path string, body any) (int, []byte) {
	f.t.Helper()
	code, _, got := f.call(f.auth(), method, path, body)
	return code, got
}

func (f *fixture) decode(b []byte, into any) {
	f.t.Helper()
	if err := json.Unmarshal(b, into); err != nil {
		f.t.Fatalf("decode %s: %v", b, err)
	}
}

type jitReply struct {
	Runner runnerJSON
	Config string `json:"encoded_jit_config"`
}

// jit mints a config in the scope and fails the test when that fails.
func (f *fixture) jit(scope Scope, name string, labels ...string) jitReply {
	f.t.Helper()
	code, got := f.do(http.MethodPost, scope.path()+"/actions/runners/generate-jitconfig",
		map[string]any{"name": name, "runner_group_id": 1, "labels": labels})
	if code != http.StatusCreated {
		f.t.Fatalf("generate JIT config for %s: got %d %s, want 201", name, code, got)
	}
	var reply jitReply
	f.decode(got, &reply)
	return reply
}

func (s Scope) path() string {
	for i := range s {
		if s[i] == '/' {
			return "/repos/" + string(s)
		}
	}
	return "/orgs/" + string(s)
}

// guest connects with a config and runs what it is given for its duration.
type guest struct {
	s      *Session
	mu     sync.Mutex
	jobs   []JobID
	closed error
}

// ran is the jobs it was given so far.
func (g *guest) ran() []JobID {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.jobs)
}

func (f *fixture) guest(config string) *guest {
	f.t.Helper()
	s, err := f.h.Connect(config, "2.335.1")
	if err != nil {
		f.t.Fatalf("connect: %v", err)
	}
	g := &guest{s: s}
	err = s.Listen(Listener{
		Assigned: func(a JobAssignment) {
			if s.Start(a.ID) != nil {
				return
			}
			g.mu.Lock()
			g.jobs = append(g.jobs, a.ID)
			g.mu.Unlock()
			time.AfterFunc(a.Duration, func() { _ = s.Finish(a.ID, a.Conclusion) })
		},
		Cancelled: func(id JobID) { _ = s.Finish(id, Cancelled) },
		Closed:    func(err error) { g.closed = err },
	})
	if err != nil {
		f.t.Fatalf("listen: %v", err)
	}
	return g
}

// settle lets d pass and everything that is due happen.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// inbox is a webhook receiver.
type inbox struct {
	mu     sync.Mutex
	code   int
	wait   time.Duration
	got    []received
	secret string
}

type received struct {
	header http.Header
	body   []byte
	event  struct {
		Action string
		Job    struct {
			ID         JobID
			Status     Status
			Conclusion Conclusion
		} `json:"workflow_job"`
	}
}

func (i *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	time.Sleep(i.wait)
	rec := received{header: r.Header, body: b}
	_ = json.Unmarshal(b, &rec.event)
	i.mu.Lock()
	i.got = append(i.got, rec)
	i.mu.Unlock()
	w.WriteHeader(max(i.code, 200))
}

// actions is what came of workflow_job, in order.
func (i *inbox) actions() []string {
	var list []string
	for _, r := range i.got {
		if r.header.Get("X-GitHub-Event") == "workflow_job" {
			list = append(list, r.event.Action)
		}
	}
	return list
}

// receive gives the hub an inbox for its webhooks.
func (f *fixture) receive() *inbox {
	i := &inbox{secret: "s3cret"}
	f.h.SetWebhook(Webhook{URL: "http://dayfly/webhook", Secret: i.secret, Transport: stage.Transport{Handler: i}})
	return i
}

// Package openapi holds a client to a published OpenAPI description: it
// records HTTP exchanges under a client and checks each request, and each
// answer of a simulated server, against the description.
package openapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// exchange is one request and its answer; code is 0 when there was none.
type exchange struct {
	req    *http.Request
	sent   []byte
	code   int
	header http.Header
	got    []byte
}

// Recorder is an http.RoundTripper that keeps what passes through it.
type Recorder struct {
	base http.RoundTripper

	mu  sync.Mutex
	all []exchange
}

// Record puts a recorder before base.
func Record(base http.RoundTripper) *Recorder { return &Recorder{base: base} }

// RoundTrip implements http.RoundTripper.
func (r *Recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	x := exchange{req: req.Clone(context.Background())}
	if req.Body != nil {
		sent, err := io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err != nil {
			return nil, err
		}
		x.sent = sent
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(sent))
	}
	resp, err := r.base.RoundTrip(req)
	if err == nil {
		x.code, x.header = resp.StatusCode, resp.Header
		x.got, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(x.got))
	}
	r.mu.Lock()
	r.all = append(r.all, x)
	r.mu.Unlock()
	return resp, err
}

// Count is how many requests of a method to paths that end so were made.
func (r *Recorder) Count(method, suffix string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, x := range r.all {
		if x.req.Method == method && strings.HasSuffix(x.req.URL.Path, suffix) {
			n++
		}
	}
	return n
}

// Seen is every operation that was recorded, as "GET /app", and how often.
func (r *Recorder) Seen(t testing.TB) map[string]int {
	t.Helper()
	doc := describe(t)
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]int{}
	for _, x := range r.all {
		template, _ := match(doc, x.req.URL.Path)
		seen[x.req.Method+" "+template]++
	}
	return seen
}

// Check reports every request, and every answer that the description lists,
// that is not as described. It skips where the description is missing.
func (r *Recorder) Check(t testing.TB) {
	t.Helper()
	r.check(t, true)
}

// CheckRequests is Check without the answers, for tests that make them up.
func (r *Recorder) CheckRequests(t testing.TB) {
	t.Helper()
	r.check(t, false)
}

func (r *Recorder) check(t testing.TB, answers bool) {
	t.Helper()
	doc := describe(t)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.all {
		if err := x.check(doc, answers); err != nil {
			t.Errorf("%s %s: %v", x.req.Method, x.req.URL.RequestURI(), err)
		}
	}
}

// beyond are calls that the subset of the description leaves out: jobs that are
// run again, and statuses and check runs of commits. The simulated GitHub holds them to what the docs say.
var beyond = regexp.MustCompile(`^/repos/[^/]+/[^/]+/(statuses/[^/]+|check-runs|actions/jobs/[0-9]+/rerun|actions/runs/[0-9]+/rerun-failed-jobs)$`)

func (x exchange) check(doc *openapi3.T, answers bool) error {
	if x.req.Method == http.MethodPost && beyond.MatchString(x.req.URL.Path) {
		return nil
	}
	template, params := match(doc, x.req.URL.Path)
	item := doc.Paths.Value(template)
	if item == nil || item.GetOperation(x.req.Method) == nil {
		return errors.New("the description has no such operation")
	}
	op := item.GetOperation(x.req.Method)
	for name := range x.req.URL.Query() {
		if op.Parameters.GetByInAndName("query", name) == nil && item.Parameters.GetByInAndName("query", name) == nil {
			return fmt.Errorf("the description has no parameter %q", name)
		}
	}
	req := x.req.Clone(context.Background())
	req.Body = io.NopCloser(bytes.NewReader(x.sent))
	in := &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, QueryParams: req.URL.Query(),
		Route:   &routers.Route{Spec: doc, Path: template, PathItem: item, Method: x.req.Method, Operation: op},
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true},
	}
	if len(x.sent) > 0 && op.RequestBody == nil {
		return errors.New("a body is sent where the description has none")
	}
	if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	if !answers || x.code == 0 || op.Responses.Status(x.code) == nil {
		return nil
	}
	err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: x.code, Header: x.header,
		Body: io.NopCloser(bytes.NewReader(x.got)), Options: in.Options,
	})
	if err != nil {
		return fmt.Errorf("answer %d: %w", x.code, err)
	}
	return nil
}

// Missing says why there is no description, or nil.
func Missing() error {
	_, err := description()
	return err
}

func describe(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := description()
	if err != nil {
		t.Skipf("no GitHub description: %v", err)
	}
	return doc
}

// description is GitHub's, from ../shared beside the repository.
var description = sync.OnceValues(func() (*openapi3.T, error) {
	root, err := repository()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(root, "..", "shared", "data", "github", "openapi-subset.json")
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromFile(path)
	if err != nil {
		panic(fmt.Sprintf("openapi: read %s: %v", path, err))
	}
	return doc, nil
})

// repository is the folder of go.mod, at or above the working directory.
func repository() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "", errors.Join(err, errors.New("find repository: no go.mod above the working directory"))
}

// match finds the template of a path; the one with the fewest parameters wins.
func match(doc *openapi3.T, path string) (string, map[string]string) {
	best, found := "", map[string]string(nil)
	for template := range doc.Paths.Map() {
		if params, ok := fill(template, path); ok && (found == nil || len(params) < len(found)) {
			best, found = template, params
		}
	}
	return best, found
}

func fill(template, path string) (map[string]string, bool) {
	ts, ps := strings.Split(template, "/"), strings.Split(path, "/")
	if len(ts) != len(ps) {
		return nil, false
	}
	params := map[string]string{}
	for i, t := range ts {
		if name, ok := strings.CutPrefix(t, "{"); ok && ps[i] != "" {
			params[strings.TrimSuffix(name, "}")] = ps[i]
		} else if t != ps[i] {
			return nil, false
		}
	}
	return params, true
}

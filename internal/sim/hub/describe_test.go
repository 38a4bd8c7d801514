package hub

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// shared is the folder of test data beside the repository.
var shared = filepath.Join("..", "..", "..", "..", "shared", "data", "github")

// description is GitHub's OpenAPI description, nil when it is not there.
var description = sync.OnceValue(func() *openapi3.T {
	path := filepath.Join(shared, "openapi-subset.json")
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	doc, err := openapi3.NewLoader().LoadFromFile(path)
	if err != nil {
		panic(err)
	}
	// The list says that an account is a user and an enterprise at once (allOf);
	// the single installation says one of them (anyOf), which must be meant.
	list := doc.Paths.Value("/app/installations").Get.Responses.Value("200").Value
	account := list.Content.Get("application/json").Schema.Value.Items.Value.Properties["account"].Value
	account.AnyOf, account.AllOf = append(account.AnyOf, account.AllOf...), nil
	return doc
})

// undeclared are answers that every endpoint can give whether its description
// says so or not: no credential, no permission, not there, a limit.
var undeclared = []int{400, 401, 403, 404, 422, 429}

// exchanges checks exchanges against the description and counts what it saw.
type exchanges struct {
	t    testing.TB
	mu   sync.Mutex
	seen map[string][]int // "GET /app" → statuses
}

func (x *exchanges) check(req *http.Request, sent []byte, resp *http.Response, got []byte) {
	x.t.Helper()
	doc := description()
	path := strings.TrimPrefix(req.URL.Path, "/api/v3")
	template, params := match(doc, path)
	item := doc.Paths.Value(template)
	if item == nil || item.GetOperation(req.Method) == nil {
		x.failure(req, resp, got)
		return
	}
	op := item.GetOperation(req.Method)
	name := req.Method + " " + template
	x.mu.Lock()
	x.seen[name] = append(x.seen[name], resp.StatusCode)
	x.mu.Unlock()
	in := &openapi3filter.RequestValidationInput{
		Request: copyOf(req, sent), PathParams: params, QueryParams: req.URL.Query(),
		Route:   &routers.Route{Spec: doc, Path: template, PathItem: item, Method: req.Method, Operation: op},
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true},
	}
	if resp.StatusCode < 400 {
		if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
			x.t.Errorf("%s: the hub took a request that is not as described: %v", name, err)
		}
	}
	if op.Responses.Status(resp.StatusCode) == nil {
		x.failure(req, resp, got)
		return
	}
	err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header,
		Body: io.NopCloser(bytes.NewReader(got)), Options: in.Options,
	})
	if err != nil {
		x.t.Errorf("%s: answer %d is not as described: %v", name, resp.StatusCode, err)
	}
}

// failure checks an answer that the description does not list.
func (x *exchanges) failure(req *http.Request, resp *http.Response, got []byte) {
	x.t.Helper()
	if resp.StatusCode == http.StatusNotModified && len(got) == 0 {
		return // every GET may be conditional (docs), though few say so
	}
	if !slices.Contains(undeclared, resp.StatusCode) {
		x.t.Errorf("%s %s: got status %d, which is not described", req.Method, req.URL.Path, resp.StatusCode)
		return
	}
	if !bytes.Contains(got, []byte(`"message":`)) || !bytes.Contains(got, []byte(`"documentation_url":`)) {
		x.t.Errorf("%s %s: answer %d is no GitHub error: %s", req.Method, req.URL.Path, resp.StatusCode, got)
	}
}

func copyOf(req *http.Request, sent []byte) *http.Request {
	r := req.Clone(context.Background())
	r.Body = io.NopCloser(bytes.NewReader(sent))
	return r
}

// match finds the path's template; one with fewer parameters comes first.
func match(doc *openapi3.T, path string) (string, map[string]string) {
	best, found := "", map[string]string(nil)
	for template := range doc.Paths.Map() {
		params, ok := fill(template, path)
		if ok && (found == nil || len(params) < len(found)) {
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
		if name, ok := strings.CutPrefix(t, "{"); ok {
			v, _ := url.PathUnescape(ps[i])
			params[strings.TrimSuffix(name, "}")] = v
		} else if t != ps[i] {
			return nil, false
		}
	}
	return params, true
}

// described makes the fixture check every exchange.
func described(f *fixture) *exchanges {
	if description() == nil {
		return nil
	}
	x := &exchanges{t: f.t, seen: map[string][]int{}}
	f.check = x.check
	return x
}

func TestEveryEndpointFollowsTheDescription(t *testing.T) {
	if description() == nil {
		t.Skipf("no GitHub description: put openapi-subset.json into %s", shared)
	}
	story(t, Config{}, func(t *testing.T, f *fixture) {
		x := described(f)
		tour(f)
		for _, e := range endpoints() {
			if e.needs == "statuses=write" || e.needs == "checks=write" || e.needs == "actions=write" {
				continue // not in the subset
			}
			name := e.method + " " + e.path
			good := slices.ContainsFunc(x.seen[name], func(code int) bool { return code < 400 })
			bad := slices.ContainsFunc(x.seen[name], func(code int) bool { return code >= 400 })
			if !good || !bad {
				t.Errorf("%s: got statuses %v, want a success and a failure", name, x.seen[name])
			}
		}
	})
}

// tour visits every endpoint, with and without success.
func tour(f *fixture) {
	f.receive()
	f.h.AddGroup("acme", Group{Name: "big", Repositories: []string{"acme/app"}})
	f.h.AddInstallation(Installation{Account: "ada", User: true, Repositories: []string{"toys"}})
	id := f.h.QueueJob(NewJob{Repo: "acme/app", Labels: []string{"linux"}})
	f.h.QueueJob(NewJob{Repo: "acme/app", Labels: []string{"linux"}, Waiting: true})
	f.guest(f.jit("acme", "one", "linux").Config)
	f.guest(f.jit("acme/app", "two", "linux", "x64").Config)
	f.jit("acme", "three", "linux")
	job, _ := f.h.Job(id)
	f.visitApp()
	f.visitDeliveries()
	gone := []string{"/actions/runners/99", "/actions/runners/generate-jitconfig"}
	for _, scope := range []string{"/orgs/acme", "/repos/acme/app"} {
		f.visit("GET", scope+"/actions/runners", "GET", scope+"/actions/runners?name=two&per_page=1",
			"GET", scope+"/actions/runners/deprecations/2.335.1", "GET", scope+gone[0], "DELETE", scope+gone[0],
			"POST", scope+gone[1])
	}
	f.jit("acme/app", "four", "linux")
	f.visit("GET", "/orgs/acme/actions/runners/3", "DELETE", "/orgs/acme/actions/runners/3",
		"GET", "/repos/acme/app/actions/runners/4", "DELETE", "/repos/acme/app/actions/runners/4",
		"GET", "/orgs/acme/actions/runner-groups?visible_to_repository=app", "GET", "/orgs/acme/actions/runner-groups/3",
		"GET", "/orgs/acme/actions/runner-groups/9", "GET", "/orgs/acme/actions/runner-groups/1/runners",
		"GET", "/orgs/acme/actions/runner-groups/9/runners", "GET", "/orgs/acme/actions/runner-groups?visible_to_repository=no",
		"GET", "/repos/acme/app/actions/runs?status=queued", "GET", "/repos/acme/app/actions/runs",
		"GET", runPath(job.Run), "GET", runPath(9), "GET", runPath(job.Run)+"/jobs?filter=latest", "GET", runPath(9)+"/jobs",
		"GET", jobPath(id), "GET", jobPath(9), "GET", "/installation/repositories", "GET", "/rate_limit", "GET", "/meta")
	f.refuse()
	f.visit("DELETE", "/installation/token", "DELETE", "/installation/token")
	f.token = ""
}

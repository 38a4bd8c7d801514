// Package schema holds clients of Proxmox VE to its published API description:
// it records the requests under a client and checks each one's method, path,
// parameter names, types, formats and limits.
//
// It knows nothing of dayfly and takes nothing from the simulator, whose
// mistakes it could share.
package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// request is one request as it was sent.
type request struct {
	method, path string // path without /api2/json
	params       map[string]any
	trouble      []string // found while reading it
}

// Recorder is an http.RoundTripper that keeps the requests passing through it.
type Recorder struct {
	base http.RoundTripper

	mu  sync.Mutex
	all []request
}

// Record puts a recorder before base.
func Record(base http.RoundTripper) *Recorder { return &Recorder{base: base} }

// RoundTrip implements http.RoundTripper.
func (r *Recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		b, err := io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err != nil {
			return nil, err
		}
		body = b
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	r.mu.Lock()
	r.all = append(r.all, read(req, body))
	r.mu.Unlock()
	return r.base.RoundTrip(req)
}

// Watch puts a recorder before a server, for clients in other processes or with
// a transport of their own.
func (r *Recorder) Watch(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // the client went away: nobody awaits an answer
		}
		r.mu.Lock()
		r.all = append(r.all, read(req, body))
		r.mu.Unlock()
		req.Body = io.NopCloser(bytes.NewReader(body))
		h.ServeHTTP(w, req)
	})
}

// Sent reports whether there was a request.
func (r *Recorder) Sent() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all) > 0
}

// read collects the parameters of a request.
func read(req *http.Request, body []byte) request {
	path, ok := strings.CutPrefix(req.URL.Path, "/api2/json")
	x := request{method: req.Method, path: path, params: map[string]any{}}
	if !ok {
		x.note("path does not begin with /api2/json")
	}
	x.form(req.URL.RawQuery)
	if len(body) == 0 {
		return x
	}
	switch kind, _, _ := strings.Cut(req.Header.Get("Content-Type"), ";"); {
	case req.Method == http.MethodGet || req.Method == http.MethodDelete:
		x.note("%s with a body, which pveproxy refuses with 501", req.Method)
	case kind == "application/json":
		x.json(body)
	case kind == "application/x-www-form-urlencoded":
		x.form(string(body))
	default:
		x.note("content type %q, which pveproxy refuses with 506", kind)
	}
	return x
}

func (x *request) note(format string, args ...any) {
	x.trouble = append(x.trouble, fmt.Sprintf(format, args...))
}

func (x *request) form(encoded string) {
	values, err := url.ParseQuery(encoded)
	if err != nil {
		x.note("parameters: %v", err)
	}
	for name, all := range values {
		if len(all) > 1 {
			x.params[name] = anys(all)
			continue
		}
		x.params[name] = all[0]
	}
}

func (x *request) json(body []byte) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var params map[string]any
	if err := d.Decode(&params); err != nil {
		x.note("body: %v", err)
	}
	for name, v := range params {
		if v != nil { // null is as if not given
			x.params[name] = v
		}
	}
}

func anys(in []string) []any {
	var out []any
	for _, s := range in {
		out = append(out, s)
	}
	return out
}

// Descriptions are the published descriptions by file name.
var Descriptions = []string{"apidoc-9.1.json", "apidoc-8.4.json"}

// Available reports whether the descriptions, test data beside the
// repository, are there.
func Available() bool {
	dir, err := shared()
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(dir, Descriptions[0]))
	return err == nil
}

// Check fails t for every recorded request that a description does not allow.
// Parameters named in newer may be unknown to the older descriptions. The
// descriptions are test data beside the repository; without them t is skipped.
func (r *Recorder) Check(t testing.TB, newer ...string) {
	t.Helper()
	dir, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no API descriptions: %v (they are test data beside the repository)", err)
	}
	r.mu.Lock()
	all := slices.Clone(r.all)
	r.mu.Unlock()
	if len(all) == 0 {
		t.Error("no request was recorded")
	}
	for i, name := range Descriptions {
		api, err := Load(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range problems(api, all, i > 0, newer) {
			t.Errorf("%s: %s", name, problem)
		}
	}
}

// problems lists what api does not allow, each once.
func problems(api *API, all []request, old bool, newer []string) []string {
	var found []string
	for _, x := range all {
		params := map[string]any{}
		for name, v := range x.params {
			if !old || !slices.Contains(newer, name) {
				params[name] = v
			}
		}
		for _, p := range append(slices.Clone(x.trouble), api.Problems(x.method, x.path, params)...) {
			line := fmt.Sprintf("%s %s: %s", x.method, x.path, p)
			if !slices.Contains(found, line) {
				found = append(found, line)
			}
		}
	}
	return found
}

// shared is the folder of Proxmox's test data beside the repository.
func shared() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "..", "shared", "data", "pve"), nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod above %s", dir)
		}
		dir = up
	}
}

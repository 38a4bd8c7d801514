package openapi

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

type canned struct {
	code int
	body string
}

func (c canned) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: c.code, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(c.body)), Request: req,
	}, nil
}

const jit = "https://api.github.com/orgs/acme/actions/runners/generate-jitconfig"

// TestEachKindOfViolationIsFound plants one fault at a time.
func TestEachKindOfViolationIsFound(t *testing.T) {
	doc := describe(t)
	tests := []struct {
		name, method, url, body string
		answer                  canned
		want                    string // in the error; empty is none
	}{
		{"all is well", "GET", "https://api.github.com/rate_limit", "", canned{404, `{"message":"Not Found"}`}, ""},
		{"unknown path", "GET", "https://api.github.com/no/such", "", canned{200, `{}`}, "no such operation"},
		{"unknown method", "PUT", "https://api.github.com/app", "", canned{200, `{}`}, "no such operation"},
		{"unknown parameter", "GET", "https://api.github.com/orgs/acme/actions/runners?nmae=x", "", canned{500, ``}, `no parameter "nmae"`},
		{"missing key", "POST", jit, `{"name":"x","labels":["a"]}`, canned{500, ``}, "runner_group_id"},
		{"null labels", "POST", jit, `{"name":"x","runner_group_id":1,"labels":null}`, canned{500, ``}, "labels"},
		{"body where none is", "DELETE", "https://api.github.com/orgs/acme/actions/runners/1", `{}`, canned{204, ``}, "description has none"},
		{"answer that lacks a key", "GET", "https://api.github.com/orgs/acme/actions/runners", "", canned{200, `{"runners":[]}`}, "answer 200"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := Record(test.answer)
			req, err := http.NewRequest(test.method, test.url, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			if test.body != "" {
				req.Header.Set("Content-Type", "application/json")
			}
			resp, err := r.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := io.ReadAll(resp.Body); string(got) != test.answer.body {
				t.Errorf("got body %q through the recorder, want %q", got, test.answer.body)
			}
			err = r.all[0].check(doc, true)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			if got := r.Count(test.method, req.URL.Path); got != 1 {
				t.Errorf("got count %d, want 1", got)
			}
		})
	}
}

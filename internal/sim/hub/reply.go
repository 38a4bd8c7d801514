package hub

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// answer is what an endpoint says; body is marshalled unless it is nil.
type answer struct {
	code   int
	body   any
	header http.Header
}

func ok(body any) answer      { return answer{code: http.StatusOK, body: body} }
func created(body any) answer { return answer{code: http.StatusCreated, body: body} }

// failure is GitHub's basic-error; it has carried the status as a string since
// 2023, and some endpoints a list of errors.
type failure struct {
	Message string   `json:"message"`
	Errors  []string `json:"errors,omitempty"`
	Docs    string   `json:"documentation_url"`
	Status  string   `json:"status"`
}

const docs = "https://docs.github.com/rest"

func fail(code int, format string, args ...any) answer {
	return answer{code: code, body: failure{
		Message: fmt.Sprintf(format, args...), Docs: docs, Status: strconv.Itoa(code),
	}}
}

func notFound() answer { return fail(http.StatusNotFound, "Not Found") }

func (a answer) with(key, value string) answer {
	if a.header == nil {
		a.header = http.Header{}
	}
	a.header.Set(key, value)
	return a
}

// page is the part of a list that per_page and page ask for.
type page struct{ from, to, total, size, number int }

// paginate reads per_page (30, at most 100) and page; GitHub takes a wrong
// value as the default.
func paginate(q url.Values, total int) page {
	size := atoiOr(q.Get("per_page"), 30)
	size = min(max(size, 1), 100)
	number := max(atoiOr(q.Get("page"), 1), 1)
	from := min((number-1)*size, total)
	return page{from: from, to: min(from+size, total), total: total, size: size, number: number}
}

// link is the Link header of this page, empty when it is the only one.
func (p page) link(r *http.Request) string {
	last := max((p.total+p.size-1)/p.size, 1)
	at := func(n int, rel string) string {
		u := *r.URL
		u.Scheme, u.Host = "http", r.Host
		if r.TLS != nil {
			u.Scheme = "https"
		}
		q := u.Query()
		q.Set("page", strconv.Itoa(n))
		u.RawQuery = q.Encode()
		return fmt.Sprintf(`<%s>; rel="%s"`, u.String(), rel)
	}
	s := ""
	add := func(part string) {
		if s != "" {
			s += ", "
		}
		s += part
	}
	if p.number > 1 {
		add(at(p.number-1, "prev"))
		add(at(1, "first"))
	}
	if p.number < last {
		add(at(p.number+1, "next"))
		add(at(last, "last"))
	}
	return s
}

// paged adds the Link header if there is more than one page.
func (a answer) paged(p page, r *http.Request) answer {
	if l := p.link(r); l != "" {
		return a.with("Link", l)
	}
	return a
}

func atoiOr(s string, or int) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return or
	}
	return n
}

// stamp is GitHub's time format: UTC, whole seconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// stampOrNil is null for the zero time.
func stampOrNil(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := stamp(t)
	return &s
}

// nodeID is shaped like a GraphQL id of the new format.
func nodeID(kind string, id int64) string {
	return kind + "_k" + base64.RawURLEncoding.EncodeToString(strconv.AppendInt(nil, id, 10))
}

func must(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("hub: marshal: %v", err))
	}
	return b
}

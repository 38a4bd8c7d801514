package pve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// readParams reads the parameters of the query and the body.
func (r *call) readParams() error {
	r.params, r.null = map[string]string{}, map[string]bool{}
	if err := r.readForm(r.req.URL.RawQuery); err != nil {
		return err
	}
	body, err := r.body()
	if err != nil || body == nil {
		return err
	}
	kind, _, _ := strings.Cut(r.req.Header.Get("Content-Type"), ";")
	switch strings.TrimSpace(kind) {
	case "", "application/x-www-form-urlencoded":
		return r.readForm(string(body))
	case "application/json":
		return r.readJSON(body)
	}
	// 506 is what Proxmox answers, "Variant Also Negotiates".
	return &refusal{code: 506, message: "upload 'Content-Type '" + kind + "' not implemented", plain: true, bare: true}
}

// body reads the request's body; nil when it has none.
func (r *call) body() ([]byte, error) {
	write := r.req.Method == http.MethodPost || r.req.Method == http.MethodPut
	if !write && r.req.ContentLength > 0 {
		return nil, &refusal{code: http.StatusNotImplemented, message: "Unexpected content for method '" + r.req.Method + "'", plain: true, bare: true}
	}
	if r.req.ContentLength > maxBody {
		return nil, &refusal{code: http.StatusNotImplemented, message: "for data too large", plain: true, bare: true}
	}
	if r.req.Body == nil || !write {
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(r.req.Body, maxBody+1))
	if err != nil {
		return nil, &refusal{code: http.StatusBadRequest, message: "error reading body", plain: true}
	}
	if len(b) > maxBody {
		return nil, &refusal{code: http.StatusNotImplemented, message: "for data too large", plain: true, bare: true}
	}
	return b, nil
}

// readForm adds url-encoded parameters.
func (r *call) readForm(text string) error {
	if text == "" {
		return nil
	}
	values, err := url.ParseQuery(strings.ReplaceAll(text, ";", "%3B"))
	if err != nil {
		return &refusal{code: http.StatusBadRequest, message: "malformed parameters", plain: true}
	}
	for k, v := range values {
		if k == "_dc" {
			continue // ExtJS's way around caches
		}
		if len(v) == 1 {
			r.params[k] = v[0]
		} else {
			r.setList(k, v)
		}
	}
	return nil
}

func (r *call) setList(name string, v []string) {
	if r.list == nil {
		r.list = map[string][]string{}
	}
	r.list[name] = v
	r.params[name] = strings.Join(v, ",")
}

// jsonError is the text of Perl's JSON parser as pveproxy shows it.
func jsonError(b []byte, offset int) error {
	before := "(end of string)"
	if offset < len(b) {
		before = string(b[offset:])
		if len(before) > 20 {
			before = before[:20] + "..."
		}
	}
	return &refusal{code: http.StatusInternalServerError, plain: true, message: fmt.Sprintf(
		"malformed JSON string, neither tag, array, object, number, string or atom, at character offset %d (before %q) at /usr/share/perl5/PVE/APIServer/AnyEvent.pm line 934.", offset, before)}
}

// readJSON adds the parameters of a JSON object.
func (r *call) readJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		if s, ok := err.(*json.SyntaxError); ok && int(s.Offset) < len(b) {
			return jsonError(b, int(s.Offset)-1)
		}
		return jsonError(b, len(b))
	}
	m, ok := v.(map[string]any)
	if !ok {
		return &refusal{code: http.StatusInternalServerError, plain: true, message: "Not a HASH reference at /usr/share/perl5/PVE/APIServer/AnyEvent.pm line 978."}
	}
	for k, v := range m {
		switch v := v.(type) {
		case nil:
			r.null[k] = true
		case map[string]any:
			if r.hash == nil {
				r.hash = map[string]bool{}
			}
			r.hash[k], r.params[k] = true, ""
		case []any:
			l := make([]string, len(v))
			for i, x := range v {
				l[i] = scalar(x)
			}
			r.setList(k, l)
		default:
			r.params[k] = scalar(v)
		}
	}
	return nil
}

// scalar is a JSON value as Perl would see it.
func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		if v {
			return "1"
		}
		return "0"
	case json.Number:
		return v.String()
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

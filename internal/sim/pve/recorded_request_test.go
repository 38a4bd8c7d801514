package pve

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// ours puts our own UPIDs, tickets and digests in the place of recorded ones.
func (p *replay) ours(s string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for rec, our := range p.same {
		if len(rec) > 20 && strings.Contains(s, rec) {
			s = strings.ReplaceAll(s, rec, our)
		}
		if enc := strings.ReplaceAll(rec, ":", "%3A"); strings.HasPrefix(rec, "UPID:") && strings.Contains(s, enc) {
			s = strings.ReplaceAll(s, enc, strings.ReplaceAll(our, ":", "%3A"))
		}
	}
	return s
}

// request builds the request as it was made.
func (p *replay) request(e *entry) (*http.Request, error) {
	if e.RawRequest != "" {
		return p.rawRequest(e)
	}
	path, query, _ := strings.Cut(p.ours(e.Path), "?")
	values := url.Values{}
	for k, v := range e.Query {
		values.Set(k, scalar(v))
	}
	var body io.Reader
	header := http.Header{}
	switch {
	case e.RawBody != nil:
		body = strings.NewReader(*e.RawBody)
	case e.Encoding == "json":
		body = strings.NewReader(p.ours(string(e.Params)))
		header.Set("Content-Type", "application/json")
	case e.Encoding == "form" && (e.Method == "POST" || e.Method == "PUT"):
		body = strings.NewReader(p.form(e.Params).Encode())
		header.Set("Content-Type", "application/x-www-form-urlencoded")
	default:
		for k, v := range p.form(e.Params) {
			values[k] = append(values[k], v...)
		}
	}
	if q := values.Encode(); q != "" {
		query = strings.TrimPrefix(query+"&"+q, "&")
	}
	req, err := http.NewRequest(e.Method, "http://"+p.node+":8006/", body)
	if err != nil {
		return nil, err
	}
	if req.URL.Path, err = url.PathUnescape(path); err != nil {
		return nil, err
	}
	req.URL.RawPath, req.URL.RawQuery = path, query
	req.Header = header
	p.credentials(e, req)
	return req, nil
}

// form reads parameters given as an object or, where a name occurs twice, as
// a list of pairs.
func (p *replay) form(params json.RawMessage) url.Values {
	out := url.Values{}
	var pairs [][2]any
	if json.Unmarshal(params, &pairs) == nil {
		for _, kv := range pairs {
			out.Add(fmt.Sprint(kv[0]), p.ours(scalar(kv[1])))
		}
		return out
	}
	d := json.NewDecoder(bytes.NewReader(params))
	d.UseNumber()
	var m map[string]any
	if len(params) > 0 && d.Decode(&m) == nil {
		for k, v := range m {
			out.Set(k, p.ours(scalar(v)))
		}
	}
	return out
}

func (p *replay) credentials(e *entry, req *http.Request) {
	switch e.As {
	case "token":
		req.Header.Set("Authorization", "PVEAPIToken=dayfly@pve!mgr="+secretMark)
	case "roottoken":
		req.Header.Set("Authorization", "PVEAPIToken=root@pam!full="+secretMark)
	case "ticket":
		p.c.mu.Lock()
		req.Header.Set("Cookie", "PVEAuthCookie="+url.PathEscape(p.c.ticket("PVE", "root@pam")))
		req.Header.Set("CSRFPreventionToken", p.c.csrf("root@pam"))
		p.c.mu.Unlock()
	}
	for _, h := range e.RequestHeaders {
		v := h[1]
		if strings.Contains(v, secretMark) && h[0] != "Authorization" { // a good ticket or CSRF token
			p.c.mu.Lock()
			if h[0] == "Cookie" {
				v = "PVEAuthCookie=" + url.PathEscape(p.c.ticket("PVE", "root@pam"))
			} else {
				v = p.c.csrf("root@pam")
			}
			p.c.mu.Unlock()
		}
		req.Header.Set(h[0], v)
	}
}

var elidedBody = regexp.MustCompile(`\((\d+) bytes of body\)$`)

// rawRequest rebuilds a request that was written by hand.
func (p *replay) rawRequest(e *entry) (*http.Request, error) {
	text := e.RawRequest
	if m := elidedBody.FindStringSubmatchIndex(text); m != nil {
		n := atoi(text[m[2]:m[3]])
		text = text[:m[0]] + "env=" + strings.Repeat("x", n-4)
	}
	head, body, _ := strings.Cut(text, "\n\n")
	if head2, body2, ok := strings.Cut(text, "\n\r\n"); ok && len(head2) < len(head) {
		head, body = head2, body2
	}
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n" + body)))
	if err != nil {
		return nil, err
	}
	req.URL.Scheme, req.URL.Host, req.RequestURI = "http", p.node+":8006", ""
	return req, nil
}

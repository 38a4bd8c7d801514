package pve

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// call is one request to an API method, past authentication.
type call struct {
	c      *Cluster
	m      *method
	who    string // user or full token id; "" before a login
	node   *node  // the node the method runs on
	params map[string]string
	null   map[string]bool // parameters given as JSON null
	list   map[string][]string
	hash   map[string]bool // parameters given as JSON objects
	req    *http.Request
	woken  bool // has waited, and was woken last
}

// handler runs a method. It is called and returns under the cluster's lock,
// and gives it up while it waits.
type handler func(*call) (any, error)

// page is a result with a count beside the data.
type page struct {
	data  any
	total int
}

// raw is a result that is no JSON.
type raw struct {
	body, contentType, disposition string
}

func (r *call) has(name string) bool {
	_, ok := r.params[name]
	return ok || r.null[name]
}

func (r *call) str(name string) string { return r.params[name] }
func (r *call) on(name string) bool    { return r.params[name] == "1" }
func (r *call) num(name string) int    { return atoi(r.params[name]) }

// vmid is the container in the path.
func (r *call) vmid() int { return atoi(r.params["vmid"]) }

// take removes a parameter and returns it.
func (r *call) take(name string) string {
	v := r.params[name]
	delete(r.params, name)
	delete(r.null, name)
	return v
}

// limits of pveproxy (PVE::APIServer::AnyEvent).
const (
	maxBody        = 512 << 10
	maxHeaderLines = 64
	maxHeaderLine  = 8 << 10
)

// serve answers one request that came to a node.
func (c *Cluster) serve(w http.ResponseWriter, req *http.Request, at string) {
	c.enter()
	n := c.nodes[at]
	answers := n != nil && n.up && n.proxy
	c.mu.Unlock()
	if !answers {
		stage.Hangup()
	}
	switch req.Method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete:
	default:
		reply(w, http.StatusNotImplemented, "method '"+req.Method+"' not available", "", nil)
		return
	}
	if tooManyHeaders(req.Header) {
		_ = c.clock.Sleep(req.Context(), 5*time.Second)
		stage.Hangup()
	}
	if len(req.TransferEncoding) > 0 {
		plain(w, http.StatusNotImplemented, "chunked transfer encoding not supported")
		return
	}
	format, segments, rest := splitPath(req.URL)
	if segments == nil {
		plain(w, http.StatusInternalServerError, "no such file '"+rest+"'\n")
		return
	}
	r := &call{c: c, node: n, req: req}
	result, err := r.run(segments, format)
	r.answer(w, format, result, err)
}

// run does everything up to the answer.
func (r *call) run(segments []string, format string) (result any, err error) {
	path := "/" + strings.Join(segments, "/")
	if err := r.authenticate(path); err != nil {
		r.delay()
		return nil, err
	}
	if err := r.readParams(); err != nil {
		return nil, err
	}
	if format != "json" && format != "extjs" {
		return nil, &refusal{code: http.StatusNotImplemented, message: "no formatter for uri " + path + ", " + format, plain: true, bare: true}
	}
	r.c.enter()
	defer r.c.mu.Unlock()
	defer r.yield()
	return r.dispatch(path, segments)
}

// dispatch finds the method, checks who may call it, where it runs and what it
// was given, in Proxmox's order, and calls it.
func (r *call) dispatch(path string, segments []string) (any, error) {
	if len(segments) == 0 {
		return subdirs("version", "cluster", "nodes", "storage", "access", "pools"), nil
	}
	vars := map[string]string{}
	r.m = r.c.schema.find(r.req.Method, segments, vars)
	if r.m == nil {
		return nil, &refusal{code: http.StatusNotImplemented, message: "Method '" + r.req.Method + " " + path + "' not implemented", bare: true}
	}
	if r.m.noToken && strings.Contains(r.who, "!") {
		return nil, denied("URI '" + path + "' not available with API token, need proper ticket.\n")
	}
	for k, v := range vars {
		if r.has(k) {
			return nil, badParam(k, "duplicate parameter (already defined in URI)")
		}
		r.params[k] = v
	}
	if r.who != "root@pam" && r.m.who != "world" {
		if r.m.perm != nil {
			if err := r.permit(r.m.perm); err != nil {
				return nil, err
			}
		} else if r.m.who == "root" {
			return nil, denied("")
		}
	}
	if err := r.reach(); err != nil {
		return nil, err
	}
	if r.m.protected {
		if err := r.worker(); err != nil {
			return nil, err
		}
		defer r.c.dismiss(r.node)
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	if r.m.handle == nil {
		return nil, notSimulated
	}
	return r.m.handle(r)
}

// notSimulated is the answer of a method that Proxmox has and the simulator
// does not, to a caller who may use it.
var notSimulated = &refusal{code: http.StatusNotImplemented, message: "sim: method is not simulated", bare: true}

// reach goes to the node and the daemon that the method runs in.
func (r *call) reach() error {
	if name := r.params["node"]; r.m.proxy && name != "localhost" && name != r.node.name {
		if err := r.proxyTo(name); err != nil {
			return err
		}
	}
	if r.m.protected && !r.node.daemon {
		if r.node.reset {
			r.node.reset = false
			return &refusal{code: 596, message: "Connection reset by peer", empty: true}
		}
		return &refusal{code: 595, message: "Connection refused", empty: true}
	}
	if name := r.params["node"]; name == "localhost" {
		r.params["node"] = r.node.name
	}
	return nil
}

// proxyTo goes on at another node. An unknown one is looked up in the DNS
// first, which takes the resolver ten seconds.
func (r *call) proxyTo(name string) error {
	n := r.c.nodes[name]
	if n != nil {
		if !n.up || !n.proxy {
			text := "No route to host"
			if n.up {
				text = "Connection refused"
			}
			return &refusal{code: 595, message: text, empty: true}
		}
		r.node = n
		return nil
	}
	for _, known := range r.c.names {
		if strings.EqualFold(known, name) {
			return &refusal{code: 596, message: "error:0A000086:SSL routines::certificate verify failed", empty: true}
		}
	}
	why := "Name or service not known"
	if formats["pve-node"](name) == "" {
		r.sleep(10 * time.Second)
		why = "Temporary failure in name resolution"
	}
	return die("hostname lookup '" + name + "' failed - failed to get address info for: " + name + ": " + why)
}

func tooManyHeaders(h http.Header) bool {
	lines := 0
	for k, v := range h {
		lines += len(v)
		for _, s := range v {
			if len(k)+len(s)+2 > maxHeaderLine {
				return true
			}
		}
	}
	return lines >= maxHeaderLines
}

// splitPath takes "/api2/json/nodes/pve" apart. segments is nil outside of
// /api2; rest is then the whole path.
func splitPath(u *url.URL) (format string, segments []string, rest string) {
	escaped := u.EscapedPath()
	parts := strings.Split(escaped, "/")
	segments = []string{}
	for _, p := range parts {
		if p == "" {
			continue
		}
		if s, err := url.PathUnescape(p); err == nil {
			p = s
		}
		segments = append(segments, p)
	}
	if len(segments) < 2 || segments[0] != "api2" {
		return "", nil, u.Path
	}
	return segments[1], segments[2:], ""
}

// answer writes the result or the refusal.
func (r *call) answer(w http.ResponseWriter, format string, result any, err error) {
	if err == nil {
		r.succeed(w, format, result)
		return
	}
	var no *refusal
	if !errors.As(err, &no) {
		no = &refusal{code: http.StatusInternalServerError, message: err.Error()}
	}
	message := no.message
	if !no.bare {
		message += "\n"
	}
	reason, _, _ := strings.Cut(no.message, "\n")
	switch {
	case no.empty:
		reply(w, no.code, reason, "", nil)
		return
	case no.plain:
		reply(w, no.code, reason, "", []byte(message))
		return
	}
	body := map[string]any{"data": nil, "message": message}
	if !r.c.since("8.4") { // the message is in the body since pve-http-server 5.2
		delete(body, "message")
	}
	if no.params != nil {
		body["errors"] = no.params
	}
	if format == "extjs" {
		body["success"], body["status"] = 0, strconv.Itoa(no.code)
		writeJSON(w, http.StatusOK, "OK", body)
		return
	}
	writeJSON(w, no.code, reason, body)
}

func (r *call) succeed(w http.ResponseWriter, format string, result any) {
	body := map[string]any{}
	switch v := result.(type) {
	case raw:
		w.Header().Set("Content-Disposition", v.disposition)
		reply(w, http.StatusOK, "OK", v.contentType, []byte(v.body))
		return
	case page:
		body["data"] = v.data
		if v.total > 0 { // an empty list has no count
			body["total"] = v.total
		}
	default:
		body["data"] = v
	}
	if format == "extjs" {
		body["success"] = 1
	}
	writeJSON(w, http.StatusOK, "OK", body)
}

func writeJSON(w http.ResponseWriter, code int, reason string, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	reply(w, code, reason, "application/json;charset=UTF-8", b)
}

func plain(w http.ResponseWriter, code int, message string) {
	reason, _, _ := strings.Cut(message, "\n")
	reply(w, code, reason, "", []byte(message))
}

func reply(w http.ResponseWriter, code int, reason, contentType string, body []byte) {
	h := w.Header()
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	h.Set("Server", "pve-api-daemon/3.0")
	h.Set("Cache-Control", "max-age=0")
	h.Set("Pragma", "no-cache")
	if code >= http.StatusBadRequest {
		h.Set("Connection", "close")
	}
	stage.Reply(w, code, reason, body)
}

func subdirs(names ...string) []map[string]string { return index("subdir", names...) }

func index(key string, names ...string) []map[string]string {
	out := make([]map[string]string, len(names))
	for i, n := range names {
		out[i] = map[string]string{key: n}
	}
	return out
}

package schema

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func load(t *testing.T, name string) *API {
	t.Helper()
	dir, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, name)
	if _, err := os.Stat(file); err != nil {
		t.Skipf("no API description: %v (it is test data beside the repository)", err)
	}
	api, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return api
}

func TestRequestsAreHeldToTheDescription(t *testing.T) {
	api := load(t, "apidoc-9.1.json")
	const clone, config = "/nodes/pve/lxc/9000/clone", "/nodes/pve/lxc/101/config"
	for name, c := range map[string]struct {
		method, path string
		params       map[string]any
		want         []string
	}{
		"good":                   {"POST", clone, map[string]any{"newid": json.Number("101"), "full": true, "hostname": "a-b.c"}, nil},
		"good as a form":         {"POST", clone, map[string]any{"newid": "101", "full": "1"}, nil},
		"unknown path":           {"GET", "/nodes/pve/lxcs", nil, []string{"no such path"}},
		"unknown method":         {"PATCH", config, nil, []string{"no such method on /nodes/{node}/lxc/{vmid}/config"}},
		"missing parameter":      {"POST", clone, nil, []string{"newid: missing"}},
		"unknown parameter":      {"POST", clone, map[string]any{"newid": "101", "tags": "x"}, []string{"tags: no such parameter"}},
		"fraction":               {"PUT", config, map[string]any{"cores": json.Number("2.5")}, []string{"cores: no integer"}},
		"below the minimum":      {"PUT", config, map[string]any{"memory": "1"}, []string{"memory: less than 16"}},
		"above the maximum":      {"PUT", config, map[string]any{"cores": "9000"}, []string{"cores: more than 8192"}},
		"boolean in words":       {"PUT", config, map[string]any{"onboot": "yes"}, []string{"onboot: no boolean"}},
		"boolean for a string":   {"PUT", config, map[string]any{"hostname": true}, []string{"hostname: a boolean, want string"}},
		"too long":               {"PUT", config, map[string]any{"description": strings.Repeat("x", 8193)}, []string{"description: longer than 8192"}},
		"bad host name":          {"PUT", config, map[string]any{"hostname": "a_b"}, []string{"hostname: no dns-name"}},
		"bad VMID in the path":   {"GET", "/nodes/pve/lxc/99/config", nil, []string{"vmid: less than 100", "vmid: no pve-vmid"}},
		"bad tag":                {"PUT", config, map[string]any{"tags": "ok;a:b"}, []string{"tags: no pve-tag-list"}},
		"list of tags":           {"PUT", config, map[string]any{"tags": []any{"a", "b"}}, nil},
		"none of the enum":       {"GET", "/cluster/resources", map[string]any{"type": "lxc"}, []string{"type: none of [vm storage node sdn]"}},
		"good network":           {"PUT", config, map[string]any{"net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:D4:AF:9C,ip=dhcp,tag=30,type=veth,firewall=1"}, nil},
		"network without a name": {"PUT", config, map[string]any{"net0": "bridge=vmbr0"}, []string{"net0: no part name"}},
		"unknown part":           {"PUT", config, map[string]any{"net0": "name=eth0,vlan=3"}, []string{`net0: no such part "vlan"`}},
		"part twice":             {"PUT", config, map[string]any{"net0": "name=eth0,name=eth1"}, []string{"net0: part name twice"}},
		"bad part":               {"PUT", config, map[string]any{"net0": "name=eth0,tag=5000"}, []string{"net0: tag: more than 4094"}},
		"control character":      {"PUT", config, map[string]any{"env": "A=\x01"}, []string{"env: does not match the pattern"}},
		"several variables":      {"PUT", config, map[string]any{"env": "A=1\x00B=2"}, nil},
		"requires":               {"GET", "/pools", map[string]any{"type": "lxc"}, []string{"type: given without poolid"}},
		"path parameter twice":   {"POST", clone, map[string]any{"newid": "101", "vmid": "9000"}, []string{"vmid: in the path and as a parameter"}},
		"list for a scalar":      {"PUT", config, map[string]any{"hostname": []any{"a", "b"}}, []string{"hostname: a list, want string"}},
	} {
		got := api.Problems(c.method, c.path, c.params)
		same := func(got, want string) bool { return strings.HasPrefix(got, want) }
		if !slices.EqualFunc(got, c.want, same) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestOlderDescriptionsLackNewParameters(t *testing.T) {
	api := load(t, "apidoc-8.4.json")
	x := []request{{method: "PUT", path: "/nodes/pve/lxc/101/config", params: map[string]any{"env": "A=1"}}}
	if got := problems(api, x, true, nil); len(got) != 1 || !strings.HasSuffix(got[0], "env: no such parameter") {
		t.Errorf("got %q, want env to be unknown", got)
	}
	if got := problems(api, x, true, []string{"env"}); got != nil {
		t.Errorf("got %q, want env to be known as newer", got)
	}
}

type answer struct{}

func (answer) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("{}"))}, nil
}

func TestRecorderReadsEveryEncoding(t *testing.T) {
	r := Record(answer{})
	send := func(method, url, kind, body string) {
		req, err := http.NewRequest(method, "http://127.0.0.1"+url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		res, err := r.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
	send("PUT", "/api2/json/a?x=1", "application/json", `{"y":2,"z":null}`)
	send("POST", "/api2/json/b", "application/x-www-form-urlencoded", "x=1&y=2&y=3")
	send("DELETE", "/api2/json/c", "application/json", `{"force":1}`)
	send("POST", "/api2/json/d", "text/plain", "x")
	send("GET", "/version", "", "")
	want := []request{
		{method: "PUT", path: "/a", params: map[string]any{"x": "1", "y": json.Number("2")}},
		{method: "POST", path: "/b", params: map[string]any{"x": "1", "y": []any{"2", "3"}}},
		{method: "DELETE", path: "/c", params: map[string]any{}, trouble: []string{"DELETE with a body, which pveproxy refuses with 501"}},
		{method: "POST", path: "/d", params: map[string]any{}, trouble: []string{`content type "text/plain", which pveproxy refuses with 506`}},
		{method: "GET", path: "/version", params: map[string]any{}, trouble: []string{"path does not begin with /api2/json"}},
	}
	for i, w := range want {
		got := r.all[i]
		a, _ := json.Marshal([]any{got.method, got.path, got.params, got.trouble})
		b, _ := json.Marshal([]any{w.method, w.path, w.params, w.trouble})
		if string(a) != string(b) {
			t.Errorf("request %d: got %s, want %s", i, a, b)
		}
	}
}

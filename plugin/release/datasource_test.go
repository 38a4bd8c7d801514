package release

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sum = "8a2e5c1fe8d8ea0ad3b1d4d1c3a8a52ee8c2e7ba5f8a3a1d2a4a3f2d1a0b9c8d"

// hub serves one release as GitHub does, and counts what it is asked.
func hub(t *testing.T, edit func(map[string]any)) (url string, asked *[]string) {
	t.Helper()
	asked = new([]string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.URL.Path+" "+r.Header.Get("Authorization"))
		if r.URL.Path != "/repos/actions/runner/releases/latest" && r.URL.Path != "/repos/actions/runner/releases/tags/v2.340.0" {
			http.NotFound(w, r)
			return
		}
		release := map[string]any{
			"tag_name": "v2.340.0", "published_at": "2026-10-01T12:00:00Z",
			"body":   "## Notes\n- linux <!-- BEGIN SHA linux-x64 -->" + sum + "<!-- END SHA linux-x64 -->\n",
			"assets": []any{map[string]any{"name": "actions-runner-linux-x64-2.340.0.tar.gz", "browser_download_url": "https://github.test/r.tar.gz", "digest": "sha256:" + sum}},
		}
		if edit != nil {
			edit(release)
		}
		_ = json.NewEncoder(w).Encode(release)
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

func find(t *testing.T, conf map[string]any) (DatasourceOutput, error) {
	t.Helper()
	t.Setenv("PACKER_GITHUB_API_TOKEN", "")
	t.Setenv("GITHUB_TOKEN", "")
	d := &Datasource{}
	if err := d.Configure(conf); err != nil {
		t.Fatal(err)
	}
	return d.find()
}

func TestDefaultIsPinnedAndAsksNobody(t *testing.T) {
	url, asked := hub(t, nil)
	got, err := find(t, map[string]any{"api_url": url})
	if err != nil {
		t.Fatal(err)
	}
	want := DatasourceOutput{
		Version: Version, Arch: "x64", SHA256: pins[Version]["x64"],
		URL: "https://github.com/actions/runner/releases/download/v" + Version + "/actions-runner-linux-x64-" + Version + ".tar.gz",
	}
	if diff := cmp.Diff(want, got); diff != "" || len(*asked) != 0 {
		t.Errorf("(-want +got)\n%s\nasked GitHub: %q", diff, *asked)
	}
}

func TestVersionsAreLookedUp(t *testing.T) {
	for _, version := range []string{"2.340.0", "latest"} {
		url, asked := hub(t, nil)
		got, err := find(t, map[string]any{"api_url": url, "version": version, "token": "canary"})
		if err != nil {
			t.Fatal(err)
		}
		want := DatasourceOutput{Version: "2.340.0", Arch: "x64", SHA256: sum, URL: "https://github.test/r.tar.gz", PublishedAt: "2026-10-01T12:00:00Z"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("version %s (-want +got)\n%s", version, diff)
		}
		if len(*asked) != 1 || !strings.HasSuffix((*asked)[0], " Bearer canary") {
			t.Errorf("version %s: asked %q, want one request with the token", version, *asked)
		}
	}
}

func TestReleasesThatCannotBeTrusted(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(map[string]any)
		conf map[string]any
		want string
	}{
		"no such version": {nil, map[string]any{"version": "9.9.9"}, "look up runner 9.9.9: GitHub has no such release"},
		"no tarball":      {nil, map[string]any{"arch": "arm64"}, "the release has no actions-runner-linux-arm64-2.340.0.tar.gz"},
		"sums differ": {func(r map[string]any) {
			r["assets"].([]any)[0].(map[string]any)["digest"] = "sha256:" + strings.Repeat("0", 64)
		}, nil, "the release's notes say sha256 " + sum + ", GitHub computed 000"},
		"no sum": {func(r map[string]any) {
			r["body"] = ""
			r["assets"].([]any)[0].(map[string]any)["digest"] = ""
		}, nil, "GitHub gives no sha256 for it: give sha256"},
		"odd tag": {func(r map[string]any) { r["tag_name"] = "../../etc" }, nil, `the release's tag is "../../etc"`},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := hub(t, c.edit)
			conf := map[string]any{"api_url": url, "version": "2.340.0"}
			for k, v := range c.conf {
				conf[k] = v
			}
			_, err := find(t, conf)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	for status, want := range map[int]string{
		http.StatusTooManyRequests: "give a token, or pin version and sha256",
		http.StatusUnauthorized:    "GitHub refuses the token",
		http.StatusBadGateway:      "502 Bad Gateway",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		_, err := find(t, map[string]any{"api_url": server.URL, "version": "latest"})
		server.Close()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("status %d: got %v, want %q", status, err, want)
		}
	}
}

func TestAllConfigurationErrorsAtOnce(t *testing.T) {
	err := (&Datasource{}).Configure(map[string]any{"version": "newest", "arch": "riscv", "sha256": "x", "api_url": "ftp://x"})
	for _, field := range []string{"version", "arch", "sha256", "api_url"} {
		if err == nil || !strings.Contains(err.Error(), field+": ") {
			t.Errorf("got %v, want one about %s", err, field)
		}
	}
}

func TestOutputIsWhatTheSpecSays(t *testing.T) {
	d := &Datasource{}
	if err := d.Configure(map[string]any{}); err != nil {
		t.Fatal(err)
	}
	value, err := d.Execute()
	if err != nil {
		t.Fatal(err)
	}
	for name := range d.OutputSpec() {
		if !value.Type().HasAttribute(name) {
			t.Errorf("the output has no %s", name)
		}
	}
	if got := value.GetAttr("version").AsString(); got != Version {
		t.Errorf("version is %q, want %q", got, Version)
	}
}

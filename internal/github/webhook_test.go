package github

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

var hookSecret = fleet.NewSecret("a webhook secret")

func signed(event string, body []byte) http.Header {
	mac := hmac.New(sha256.New, []byte(hookSecret.Reveal()))
	mac.Write(body)
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("X-GitHub-Event", event)
	h.Set("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
	h.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	return h
}

// payloads returns example payloads by file name, as published by octokit.
// DAYFLY_PAYLOADS names another folder of them, from the repository's root.
func payloads(t testing.TB) map[string][]byte {
	t.Helper()
	dir, named := os.Getenv("DAYFLY_PAYLOADS"), true
	switch {
	case dir == "":
		dir, named = filepath.Join("..", "..", "..", "shared", "data", "github", "webhook-examples"), false
	case !filepath.IsAbs(dir):
		dir = filepath.Join("..", "..", dir)
	}
	all := map[string][]byte{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		all[path], err = os.ReadFile(filepath.Join(dir, path))
		return err
	})
	if named && (err != nil || len(all) == 0) {
		t.Fatalf("example payloads in %s: none (%v)", dir, err)
	}
	if err != nil || len(all) == 0 {
		t.Skipf("no example payloads in %s (%v); set DAYFLY_PAYLOADS to a folder of EVENT.ACTION.N.json or EVENT/*.json", dir, err)
	}
	return all
}

// eventOf reads the event off a file's path: workflow_job.queued.5.json or
// workflow_job/queued.payload.json.
func eventOf(path string) string {
	return path[:strings.IndexAny(path, "./")]
}

func TestEveryExamplePayloadIsRead(t *testing.T) {
	for file, body := range payloads(t) {
		t.Run(file, func(t *testing.T) {
			event := eventOf(file)
			d, err := ParseWebhook(hookSecret, signed(event, body), body)
			if err != nil {
				t.Fatal(err)
			}
			var raw struct {
				Action       string
				Installation struct{ ID int64 }
				Repository   struct {
					FullName string `json:"full_name"`
				}
				Job struct {
					ID     int64
					Status string
					Labels []string
				} `json:"workflow_job"`
				Ref any
			}
			if err := json.Unmarshal(body, &raw); err != nil {
				t.Fatal(err)
			}
			if d.Event != event || d.Action != raw.Action || d.Installation != raw.Installation.ID || d.Repo != raw.Repository.FullName {
				t.Errorf("got %+v, want event %s action %s installation %d repo %s",
					d, event, raw.Action, raw.Installation.ID, raw.Repository.FullName)
			}
			if (d.Job != nil) != (event == "workflow_job") || (d.Push != nil) != (event == "push") {
				t.Fatalf("got job %v and push %v for event %s", d.Job, d.Push, event)
			}
			if d.Push != nil && d.Push.Ref != raw.Ref {
				t.Errorf("got ref %q, want %v", d.Push.Ref, raw.Ref)
			}
			if d.Job != nil {
				checkExampleJob(t, *d.Job, raw.Job.ID, raw.Job.Status, raw.Job.Labels)
			}
		})
	}
}

func checkExampleJob(t *testing.T, j fleet.Job, id int64, status string, labels []string) {
	t.Helper()
	want, known := fleet.ParseStatus(status)
	if int64(j.ID) != id || !known || j.Status != want || cmp.Diff(j.Labels, labels) != "" {
		t.Errorf("got job %d %v %q, want %d %s %q", j.ID, j.Status, j.Labels, id, status, labels)
	}
	if j.Status < fleet.InProgress && (j.Runner != "" || !j.Started.IsZero()) {
		t.Errorf("job is %v, yet has runner %q and start %v", j.Status, j.Runner, j.Started)
	}
	if j.Status < fleet.Completed && (j.Conclusion != "" || !j.Ended.IsZero()) {
		t.Errorf("job is %v, yet has conclusion %q and end %v", j.Status, j.Conclusion, j.Ended)
	}
}

func parseJob(t *testing.T, body string) fleet.Job {
	t.Helper()
	d, err := ParseWebhook(hookSecret, signed("workflow_job", []byte(body)), []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return *d.Job
}

func TestQueuedActionWithStatusWaitingIsNotDemand(t *testing.T) {
	j := parseJob(t, `{"action":"queued","deployment":{"id":1},"repository":{"full_name":"acme/app"},
		"workflow_job":{"id":7,"status":"waiting","labels":["x"],"runner_id":null}}`)
	if j.Status != fleet.Waiting {
		t.Errorf("got status %v, want waiting", j.Status)
	}
}

func TestQueuedJobWithRunnerIDHasNoRunner(t *testing.T) {
	j := parseJob(t, `{"action":"queued","repository":{"full_name":"acme/app"},
		"workflow_job":{"id":7,"status":"queued","runner_id":5,"runner_name":"GitHub Actions 5",
		"created_at":"2026-09-13T02:21:13Z","started_at":"2026-09-13T02:21:13Z"}}`)
	if j.Runner != "" || !j.Started.IsZero() {
		t.Errorf("got runner %q, started %v, want neither", j.Runner, j.Started)
	}
}

func TestJobCancelledBeforeItsStartHasNoRunnerAndNoStart(t *testing.T) {
	j := parseJob(t, `{"action":"completed","repository":{"full_name":"acme/app"},
		"workflow_job":{"id":7,"status":"completed","conclusion":"cancelled","runner_id":0,"runner_name":"","steps":[],
		"created_at":"2026-09-13T02:21:13Z","started_at":"2026-09-13T02:21:13Z","completed_at":"2026-09-13T02:22:13Z"}}`)
	if j.Runner != "" || !j.Started.IsZero() || j.Conclusion != "cancelled" || j.Ended.IsZero() {
		t.Errorf("got %+v, want an end, cancelled, without runner and start", j)
	}
}

func TestPayloadOf2021WithoutAttemptAndCreationIsRead(t *testing.T) {
	j := parseJob(t, `{"action":"in_progress","repository":{"full_name":"acme/app"},
		"workflow_job":{"id":7,"run_id":3,"status":"in_progress","runner_id":5,"runner_name":"r","started_at":"2021-08-05T10:34:58Z"}}`)
	if j.Attempt != 0 || !j.Created.IsZero() || j.Runner != "r" || j.Started.IsZero() {
		t.Errorf("got %+v, want runner r and a start, neither attempt nor creation", j)
	}
}

func TestOnlyASHA256SignatureOfTheRawBytesIsAccepted(t *testing.T) {
	body := []byte(`{"zen":"Design for failure."}`)
	good := signed("ping", body)
	sum1 := hmac.New(sha1.New, []byte(hookSecret.Reveal()))
	sum1.Write(body)
	sha1sum := "sha1=" + hex.EncodeToString(sum1.Sum(nil))
	sum256 := hmac.New(sha256.New, nil)
	sum256.Write(body)
	empty256 := "sha256=" + hex.EncodeToString(sum256.Sum(nil))
	with := func(k, v string) http.Header {
		h := good.Clone()
		h.Del("X-Hub-Signature-256")
		if k != "" {
			h.Set(k, v)
		}
		return h
	}
	tests := []struct {
		name   string
		secret fleet.Secret
		header http.Header
		body   []byte
	}{
		{"no signature", hookSecret, with("", ""), body},
		{"no signature and no secret, which go-github accepts", fleet.Secret{}, with("", ""), body},
		{"no secret, signed with the empty one", fleet.Secret{}, with("X-Hub-Signature-256", empty256), body},
		{"SHA-1 alone, which go-github accepts", hookSecret, with("X-Hub-Signature", sha1sum), body},
		{"SHA-1 in the place of SHA-256", hookSecret, with("X-Hub-Signature-256", sha1sum), body},
		{"not hexadecimal", hookSecret, with("X-Hub-Signature-256", "sha256=zz"), body},
		{"truncated", hookSecret, with("X-Hub-Signature-256", good.Get("X-Hub-Signature-256")[:40]), body},
		{"another secret", fleet.NewSecret("other"), good, body},
		{"a byte more", hookSecret, good, append([]byte(" "), body...)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := ParseWebhook(test.secret, test.header, test.body); !errors.Is(err, ErrSignature) {
				t.Errorf("got %v, want %v", err, ErrSignature)
			}
		})
	}
	if _, err := ParseWebhook(hookSecret, good, body); err != nil {
		t.Errorf("good signature: got %v, want none", err)
	}
}

func TestMalformedWebhooksAreNamed(t *testing.T) {
	tests := []struct{ name, event, body, want string }{
		{"not JSON", "workflow_job", `{"action":`, "workflow_job: not JSON at byte 10"},
		{"wrong type", "ping", `{"repository":{"full_name":3}}`, "ping: repository.full_name: want string, found number"},
		{"a list", "push", `[]`, "push: want an object, found array"},
		{"no job", "workflow_job", `{"repository":{"full_name":"a/b"}}`, "workflow_job: missing"},
		{"null job", "workflow_job", `{"repository":{"full_name":"a/b"},"workflow_job":null}`, "workflow_job: missing"},
		{"negative id", "workflow_job", `{"repository":{"full_name":"a/b"},"workflow_job":{"id":-5,"status":"queued"}}`, "workflow_job.id: missing, or not positive"},
		{"no repository", "workflow_job", `{"workflow_job":{"id":1,"status":"queued"}}`, "repository.full_name: missing"},
		{"job of a wrong type", "workflow_job", `{"repository":{"full_name":"a/b"},"workflow_job":{"labels":"x"}}`, "workflow_job.labels: want slice, found string"},
		{"wrong time", "workflow_job", `{"repository":{"full_name":"a/b"},"workflow_job":{"created_at":"x"}}`, "workflow_job: parsing time"},
		{"new status", "workflow_job", `{"repository":{"full_name":"a/b"},"workflow_job":{"id":1,"status":"dreaming"}}`, `workflow_job.status: unknown word "dreaming"`},
		{"push without ref", "push", `{"repository":{"full_name":"a/b"}}`, "push: ref: missing"},
		{"push of a wrong type", "push", `{"ref":3}`, "push: ref: want string, found number"},
		{"no event", "", `{}`, "header X-GitHub-Event: missing"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			body := []byte(test.body)
			_, err := ParseWebhook(hookSecret, signed(test.event, body), body)
			if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %v with %q", err, ErrMalformed, test.want)
			}
		})
	}
}

func TestFormDeliveryIsRefusedWithItsCure(t *testing.T) {
	body := []byte("payload=%7B%7D")
	h := signed("ping", body)
	h.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	_, err := ParseWebhook(hookSecret, h, body)
	if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "want application/json") {
		t.Errorf("got %v, want %v that asks for application/json", err, ErrMalformed)
	}
}

func FuzzParseWebhook(f *testing.F) {
	for file, body := range seeds(f) {
		f.Add(eventOf(file), body)
	}
	f.Add("workflow_job", []byte(`{"repository":{"full_name":"a/b"},"workflow_job":{"id":1,"status":"queued","labels":[]}}`))
	f.Add("push", []byte(`{"ref":"refs/heads/main","after":"1"}`))
	f.Fuzz(func(t *testing.T, event string, body []byte) {
		h := signed("x", body)
		h["X-Github-Event"] = []string{event}
		d, err := ParseWebhook(hookSecret, h, body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("got %v, want %v: the signature is right", err, ErrMalformed)
			}
			return
		}
		if (d.Job != nil) != (event == "workflow_job") || (d.Push != nil) != (event == "push") {
			t.Fatalf("event %q has job %v and push %v", event, d.Job, d.Push)
		}
		if d.Job != nil && (d.Job.ID == 0 || d.Job.Repo == "" || d.Job.Status < fleet.Waiting || d.Job.Status > fleet.Completed ||
			d.Job.Status < fleet.InProgress && d.Job.Runner != "") {
			t.Fatalf("got impossible job %+v", *d.Job)
		}
		h.Set("X-Hub-Signature-256", "sha256="+strings.Repeat("0", 64))
		if _, err := ParseWebhook(hookSecret, h, body); !errors.Is(err, ErrSignature) {
			t.Fatalf("wrong signature: got %v, want %v", err, ErrSignature)
		}
	})
}

// seeds are the examples, where they are.
func seeds(f *testing.F) map[string][]byte {
	if _, err := os.Stat(filepath.Join("..", "..", "..", "shared", "data", "github")); err != nil && os.Getenv("DAYFLY_PAYLOADS") == "" {
		return nil
	}
	return payloads(f)
}

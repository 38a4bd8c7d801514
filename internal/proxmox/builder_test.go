package proxmox

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
	"github.com/dayfly-ci/dayfly/test/schema"
)

// bakery is a simulated Proxmox with a Builder on it.
type bakery struct {
	t   *testing.T
	sim *pve.Cluster
	*Builder
	sent *schema.Recorder
}

func newBakery(t *testing.T, conf pve.Config) *bakery {
	t.Helper()
	b := &bakery{t: t, sim: pve.New(conf)}
	pve.Lab(b.sim)
	id, secret, _ := strings.Cut(pve.LabBuilder(b.sim), "=")
	b.sent = schema.Record(stage.Transport{Handler: b.sim})
	b.Builder = b.as(BuilderConfig{User: id, Token: fleet.NewSecret(secret)})
	t.Cleanup(func() {
		if schema.Available() {
			b.sent.Check(t)
		}
	})
	return b
}

func (b *bakery) as(conf BuilderConfig) *Builder {
	b.t.Helper()
	conf.URL, conf.Transport, conf.Pool = "http://127.0.0.1:8006/api2/json", b.sent, pve.LabTemplates
	builder, err := NewBuilder(conf)
	if err != nil {
		b.t.Fatal(err)
	}
	return builder
}

func (b *bakery) make(id fleet.VMID, description string) {
	b.t.Helper()
	task, err := b.Create(b.t.Context(), "pve", id, Options{"ostemplate": pve.LabBase, "hostname": "t", "rootfs": pve.LabStorage + ":4",
		"unprivileged": 1, "pool": pve.LabTemplates, "description": description, "net0": "name=eth0,bridge=vmbr0,ip=10.0.0.7/8"})
	if err == nil {
		err = b.Wait(b.t.Context(), task)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bakery) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// slowBake makes every task take a while.
var slowBake = pve.Timing{Create: 20 * time.Second, Clone: 2 * time.Second, Start: 2 * time.Second, Shutdown: time.Second, Stop: time.Second,
	Destroy: time.Second, Template: 2 * time.Second, Disk: time.Second, AuthDelay: -1}

func TestBuilderBakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBakery(t, pve.Config{Timing: slowBake})
		ctx := t.Context()
		b.make(200, "hello")
		b.ok(b.Change(ctx, "pve", 200, Options{"memory": 1024, "tags": "a;b"}))
		b.ok(b.Start(ctx, "pve", 200))
		s, err := b.Settings(ctx, "pve", 200)
		b.ok(err)
		mac := parseNet(s["net0"])["hwaddr"]
		time.Sleep(2 * time.Second)
		if got, err := b.Address(ctx, "pve", 200, mac); got != "10.0.0.7" {
			t.Errorf("address is %q (%v), want 10.0.0.7", got, err)
		}
		if got, err := b.Address(ctx, "pve", 200, "00:00:00:00:00:01"); got != "" || err != nil {
			t.Errorf("address of no device is %q (%v)", got, err)
		}
		b.ok(b.Shutdown(ctx, "pve", 200, time.Minute))
		b.ok(b.Shutdown(ctx, "pve", 200, time.Minute)) // stopped already
		if got, err := b.Status(ctx, "pve", 200); got != "stopped" {
			t.Errorf("status is %q (%v)", got, err)
		}
		b.ok(b.Convert(ctx, "pve", 200))
		s, err = b.Settings(ctx, "pve", 200)
		b.ok(err)
		if s["template"] != "1" || !strings.Contains(s["rootfs"], "basevol-200") {
			t.Errorf("after the conversion: %v", s)
		}
		if err := b.Convert(ctx, "pve", 200); err == nil {
			t.Error("a template was converted again")
		}
		task, err := b.Copy(ctx, "pve", 200, 201, Options{"pool": pve.LabTemplates, "description": "copy"})
		b.ok(err)
		if _, err := b.Copy(ctx, "pve", 200, 202, Options{"pool": pve.LabTemplates}); !errors.Is(err, fleet.ErrLocked) {
			t.Errorf("second copy at once: %v, want %v", err, fleet.ErrLocked)
		}
		b.ok(b.Wait(ctx, task))
		if _, err := b.Copy(ctx, "pve", 200, 201, Options{"pool": pve.LabTemplates}); !errors.Is(err, fleet.ErrExists) {
			t.Errorf("copy to a taken VMID: %v, want %v", err, fleet.ErrExists)
		}
		task, err = b.Resize(ctx, "pve", 201, "6G")
		b.ok(err)
		b.ok(b.Wait(ctx, task))
		anyone := func(string) bool { return true }
		if err := b.Destroy(ctx, "pve", 201, func(d string) bool { return strings.HasPrefix(d, "hello") }); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("destroy of another's: %v, want %v", err, fleet.ErrInvalid)
		}
		if err := b.Destroy(ctx, "pve", 200, anyone); err == nil {
			t.Error("a template with a linked clone was destroyed")
		}
		b.ok(b.Destroy(ctx, "pve", 201, anyone))
		b.ok(b.Destroy(ctx, "pve", 200, anyone))
		b.ok(b.Destroy(ctx, "pve", 200, anyone)) // gone already
		if n := len(b.sim.Containers()); n != 0 {
			t.Errorf("%d containers are left", n)
		}
	})
}

// TestBuiltIsReadyOrUnfinished has a build stamp its template between the
// listing and the look at its configuration.
func TestBuiltIsReadyOrUnfinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBakery(t, pve.Config{})
		info := TemplateInfo{Schema: 1, Family: "debian-13", Version: "1.0.0-1", State: "building", Build: "b1"}
		b.make(700, info.Describe())
		b.sim.SetOption(700, "tags", BuildingTag+";"+TemplateTag)
		stamp := sync.OnceFunc(func() {
			info.State = "ready"
			b.sim.SetOption(700, "template", "1")
			b.sim.SetOption(700, "tags", ReadyTag+";"+TemplateTag)
			b.sim.SetOption(700, "description", info.Describe())
		})
		id, secret, _ := strings.Cut(pve.LabBuilder(b.sim), "=")
		b.sent = schema.Record(stage.Transport{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/700/config") {
				stamp()
			}
			b.sim.ServeHTTP(w, r)
		})})
		built, err := b.as(BuilderConfig{User: id, Token: fleet.NewSecret(secret)}).Built(t.Context(), "pve")
		if err != nil || len(built) != 1 || !built[0].Ready() {
			t.Errorf("got %+v, %v, want one that is ready", built, err)
		}
	})
}

func TestAbortedCreateLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBakery(t, pve.Config{Timing: slowBake})
		task, err := b.Create(t.Context(), "pve", 200, Options{"ostemplate": pve.LabBase, "rootfs": pve.LabStorage + ":4", "unprivileged": 1, "pool": pve.LabTemplates})
		b.ok(err)
		time.Sleep(time.Second)
		if err := b.Destroy(t.Context(), "pve", 200, func(string) bool { return true }); !errors.Is(err, fleet.ErrDenied) {
			t.Errorf("destroy of what is being made: %v, want %v", err, fleet.ErrDenied)
		}
		if err := b.Abort(t.Context(), task); err == nil {
			t.Error("the aborted task succeeded")
		}
		b.ok(b.Destroy(t.Context(), "pve", 200, func(string) bool { return true }))
		if n := len(b.sim.Containers()); n != 0 {
			t.Errorf("%d containers are left", n)
		}
	})
}

func TestTicketIsRenewedAndMakesRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBakery(t, pve.Config{Timing: slowBake})
		b.sim.SetPassword("root@pam", "secret")
		root := b.as(BuilderConfig{User: "root@pam", Password: fleet.NewSecret("secret")})
		if !root.Root() || b.Root() {
			t.Errorf("root is %v, token is %v; want true and false", root.Root(), b.Root())
		}
		b.make(200, "x")
		b.ok(root.Change(t.Context(), "pve", 200, Options{"features": "nesting=1,keyctl=1"}))
		if err := b.Change(t.Context(), "pve", 200, Options{"features": "nesting=1,fuse=1"}); !errors.Is(err, fleet.ErrDenied) {
			t.Errorf("a token set fuse: %v", err)
		}
		time.Sleep(3 * time.Hour) // a ticket lives for two
		b.ok(root.Change(t.Context(), "pve", 200, Options{"features": "nesting=1"}))
		wrong := b.as(BuilderConfig{User: "root@pam", Password: fleet.NewSecret("wrong")})
		if _, err := wrong.Version(t.Context()); !errors.Is(err, fleet.ErrDenied) || !strings.Contains(fmt.Sprint(err), "log in as root@pam") {
			t.Errorf("wrong password: %v, want %v", err, fleet.ErrDenied)
		}
	})
}

func TestBuilderChecksTheServer(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"data":{"version":"9.2.11"}}`)) }))
	defer server.Close()
	server.Config.ErrorLog = nil
	sum := sha256.Sum256(server.Certificate().Raw)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	tests := []struct {
		name string
		conf BuilderConfig
		ok   bool
	}{
		{"unknown", BuilderConfig{}, false},
		{"insecure", BuilderConfig{Insecure: true}, true},
		{"its CA", BuilderConfig{CA: ca}, true},
		{"its CA, under another of its names", BuilderConfig{CA: ca, ServerName: "example.com"}, true},
		{"its CA, under a name that it does not have", BuilderConfig{CA: ca, ServerName: "pve.example.org"}, false},
		{"its fingerprint", BuilderConfig{Fingerprint: strings.ToUpper(hex.EncodeToString(sum[:]))}, true},
		{"another fingerprint", BuilderConfig{Fingerprint: strings.Repeat("AB:", 31) + "AB"}, false},
		{"another fingerprint, insecure", BuilderConfig{Insecure: true, Fingerprint: strings.Repeat("AB:", 31) + "AB"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.conf.URL, test.conf.User, test.conf.Token = server.URL, "a@pve!b", fleet.NewSecret("c")
			b, err := NewBuilder(test.conf)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if _, err := b.Version(t.Context()); (err == nil) != test.ok {
				t.Errorf("version: %v, want success %v", err, test.ok)
			}
		})
	}
}

func TestBuilderShowsNoSecret(t *testing.T) {
	b, err := NewBuilder(BuilderConfig{URL: "https://pve:8006", User: "a@pve", Password: fleet.NewSecret("canary")})
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, b); strings.Contains(got, "canary") {
			t.Errorf("%s shows %s", verb, got)
		}
	}
}

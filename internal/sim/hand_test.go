package sim

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// hand does by hand, over plain HTTP, what the daemon is for.
type hand struct {
	t            testing.TB
	w            *World
	token        string // Proxmox's
	pve, hub     http.Client
	installation string
}

const template = 9000

// play runs f in a bubble with a furnished world.
func play(t *testing.T, cfg Config, rootfs map[string]string, f func(*testing.T, *hand)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newHand(t, cfg, rootfs)) })
}

func newHand(t testing.TB, cfg Config, rootfs map[string]string) *hand {
	w := New(cfg)
	h := &hand{t: t, w: w, token: pve.Lab(w.Proxmox)}
	w.Proxmox.AddTemplate(pve.Template{
		VMID: template, Config: map[string]string{"hostname": "ubuntu-24.04"}, ResourcePool: pve.LabTemplates,
		Storage: pve.LabStorage, Rootfs: rootfs,
	})
	w.Watch(pve.LabToken)
	w.GitHub.AddInstallation(hub.Installation{Account: "acme", Repositories: []string{"app"}})
	h.pve = http.Client{Transport: stage.Transport{Handler: w.ProxmoxAPI()}}
	h.hub = http.Client{Transport: stage.Transport{Handler: w.GitHubAPI()}}
	return h
}

// ask makes a request and decodes what it gets; it returns what went wrong.
func (h *hand) ask(c *http.Client, authorization, method, url, contentType string, body []byte, into any) error {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", authorization)
	if len(body) > 0 {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode > 299 {
		return fmt.Errorf("%s %s: %s %s", method, url, resp.Status, got)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(got, into)
}

// proxmox calls Proxmox's API and waits for the task it starts, if any.
func (h *hand) proxmox(method, path string, params ...string) error {
	values := url.Values{}
	for i := 0; i < len(params); i += 2 {
		values.Set(params[i], params[i+1])
	}
	var reply struct{ Data any }
	to, body := "https://pve.test:8006/api2/json"+path, []byte(values.Encode())
	if method == http.MethodDelete {
		to, body = to+"?"+values.Encode(), nil
	}
	err := h.ask(&h.pve, "PVEAPIToken="+h.token, method, to, "application/x-www-form-urlencoded", body, &reply)
	upid, _ := reply.Data.(string)
	if err != nil || !strings.HasPrefix(upid, "UPID:") {
		return err
	}
	for {
		var task struct {
			Data struct{ Status, Exitstatus string }
		}
		err := h.ask(&h.pve, "PVEAPIToken="+h.token, http.MethodGet,
			"https://pve.test:8006/api2/json/nodes/pve/tasks/"+url.PathEscape(upid)+"/status", "", nil, &task)
		switch {
		case err != nil:
			return err
		case task.Data.Status == "stopped" && (task.Data.Exitstatus == "OK" || strings.HasPrefix(task.Data.Exitstatus, "WARN")):
			return nil
		case task.Data.Status == "stopped":
			return fmt.Errorf("task %s: %s", upid, task.Data.Exitstatus)
		}
		time.Sleep(97 * time.Millisecond) // never when something else is due
	}
}

// github calls GitHub's API with an installation token.
func (h *hand) github(method, path string, body, into any) error {
	if h.installation == "" {
		if err := h.login(); err != nil {
			return err
		}
	}
	return h.ask(&h.hub, "Bearer "+h.installation, method, "https://api.github.com"+path, "application/json", encode(body), into)
}

func encode(v any) []byte {
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// login mints an installation token.
func (h *hand) login() error {
	app := h.w.GitHub.App()
	block, _ := pem.Decode(app.PEM)
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	b64 := base64.RawURLEncoding.EncodeToString
	now := h.w.Clock.Now()
	text := b64([]byte(`{"alg":"RS256"}`)) + "." + b64(encode(map[string]any{
		"iss": app.ClientID, "iat": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Minute).Unix(),
	}))
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return err
	}
	jwt := text + "." + b64(signature)
	var list []struct{ ID int64 }
	if err := h.ask(&h.hub, "Bearer "+jwt, http.MethodGet, "https://api.github.com/app/installations", "", nil, &list); err != nil {
		return err
	}
	var token struct{ Token string }
	err = h.ask(&h.hub, "Bearer "+jwt, http.MethodPost,
		fmt.Sprintf("https://api.github.com/app/installations/%d/access_tokens", list[0].ID), "", nil, &token)
	h.installation = token.Token
	return err
}

func lxc(vmid int) string { return fmt.Sprintf("/nodes/pve/lxc/%d", vmid) }

// clone makes a container of the template.
func (h *hand) clone(vmid int) error {
	return h.proxmox(http.MethodPost, lxc(template)+"/clone",
		"newid", fmt.Sprint(vmid), "hostname", name(vmid), "pool", pve.LabRunners)
}

func name(vmid int) string { return fmt.Sprintf("dayfly-%d", vmid) }

// jit mints a JIT config for the container.
func (h *hand) jit(vmid int) (string, error) {
	var reply struct {
		Config string `json:"encoded_jit_config"`
	}
	err := h.github(http.MethodPost, "/orgs/acme/actions/runners/generate-jitconfig",
		map[string]any{"name": name(vmid), "runner_group_id": 1, "labels": []string{"linux"}}, &reply)
	return reply.Config, err
}

// launch gives the container a JIT config and starts it.
func (h *hand) launch(vmid int, config string) error {
	if err := h.proxmox(http.MethodPut, lxc(vmid)+"/config", "env", JITVariable+"="+config); err != nil {
		return err
	}
	return h.proxmox(http.MethodPost, lxc(vmid)+"/status/start")
}

// run is all of it; it returns the JIT config.
func (h *hand) run(vmid int) string {
	h.t.Helper()
	if err := h.clone(vmid); err != nil {
		h.t.Fatalf("clone: %v", err)
	}
	config, err := h.jit(vmid)
	if err != nil {
		h.t.Fatalf("mint JIT config: %v", err)
	}
	if err := h.launch(vmid, config); err != nil {
		h.t.Fatalf("launch: %v", err)
	}
	return config
}

func (h *hand) destroy(vmid int) {
	h.t.Helper()
	if err := h.proxmox(http.MethodDelete, lxc(vmid), "purge", "1", "force", "1"); err != nil {
		h.t.Fatalf("destroy: %v", err)
	}
}

func (h *hand) queue(d time.Duration) hub.JobID {
	return h.w.GitHub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"linux"}, Duration: d})
}

// settle lets d pass and everything that is due happen.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// status is the container's, "" when there is none.
func (h *hand) status(vmid int) string {
	k, ok := h.w.Proxmox.Container(vmid)
	if !ok {
		return ""
	}
	return k.Status
}

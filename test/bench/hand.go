package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// hand does by hand what a job needs, with net/http and nothing else: no plan,
// no journal, one request after the other. It is what the daemon is compared
// with, and works in a world of its own that is like the daemon's.
type hand struct {
	w      *world
	client *http.Client
	token  string // GitHub's, of the installation
	next   int    // VMID
}

// byHand makes a world and a client that has its token.
func byHand(ctx context.Context, s setting) (*hand, error) {
	w, err := newWorld(s)
	if err != nil {
		return nil, err
	}
	h := &hand{w: w, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: patience}, next: 20000}
	jwt, err := appToken(w)
	if err != nil {
		return nil, w.closed(err)
	}
	var got struct {
		Token string `json:"token"`
	}
	path := fmt.Sprintf("/app/installations/%d/access_tokens", w.installation)
	if err := h.github(ctx, jwt, path, nil, &got); err != nil {
		return nil, w.closed(err)
	}
	h.token = got.Token
	return h, nil
}

func (h *hand) close() {
	h.client.CloseIdleConnections()
	h.w.close()
}

// appToken signs what proves that we are the App.
func appToken(w *world) (string, error) {
	app := w.GitHub.App()
	block, _ := pem.Decode(app.PEM)
	if block == nil {
		return "", errors.New("sign app token: the key is no PEM")
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("sign app token: %w", err)
	}
	enc := base64.RawURLEncoding
	now := time.Now()
	claims := fmt.Sprintf(`{"iss":"%d","iat":%d,"exp":%d}`, app.ID, now.Add(-time.Minute).Unix(), now.Add(9*time.Minute).Unix())
	text := enc.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + enc.EncodeToString([]byte(claims))
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign app token: %w", err)
	}
	return text + "." + enc.EncodeToString(signature), nil
}

// clone makes the next container and waits for it.
func (h *hand) clone(ctx context.Context) (vmid int, err error) {
	h.next++
	err = h.task(ctx, http.MethodPost, fmt.Sprintf("/lxc/%d/clone", firstTemplate), url.Values{
		"newid": {strconv.Itoa(h.next)}, "hostname": {fmt.Sprintf("byhand-%d", h.next)}, "pool": {pve.LabRunners},
	})
	return h.next, err
}

// launch mints a JIT config, hands it over, starts the container and waits
// until its init runs.
func (h *hand) launch(ctx context.Context, vmid int) error {
	config, err := h.jit(ctx, fmt.Sprintf("byhand-%d", vmid))
	if err != nil {
		return err
	}
	env := url.Values{"env": {sim.JITVariable + "=" + config}}
	if err := h.proxmox(ctx, http.MethodPut, fmt.Sprintf("/lxc/%d/config", vmid), env, nil); err != nil {
		return err
	}
	return h.task(ctx, http.MethodPost, fmt.Sprintf("/lxc/%d/status/start", vmid), nil)
}

// clear looks at what there is and destroys a container.
func (h *hand) clear(ctx context.Context, vmid int) error {
	if err := h.proxmox(ctx, http.MethodGet, "/lxc", nil, nil); err != nil {
		return err
	}
	return h.task(ctx, http.MethodDelete, fmt.Sprintf("/lxc/%d", vmid), url.Values{"force": {"1"}})
}

func (h *hand) jit(ctx context.Context, name string) (string, error) {
	var got struct {
		Config string `json:"encoded_jit_config"`
	}
	body := map[string]any{"name": name, "runner_group_id": 1, "labels": labels}
	err := h.github(ctx, h.token, "/orgs/"+org+"/actions/runners/generate-jitconfig", body, &got)
	return got.Config, err
}

// pollEvery is how often a task is looked at.
const pollEvery = 10 * time.Millisecond

// task makes a request that starts a task, and waits for its end.
func (h *hand) task(ctx context.Context, method, path string, params url.Values) error {
	var upid string
	if err := h.proxmox(ctx, method, path, params, &upid); err != nil {
		return err
	}
	for {
		var status struct {
			Status string `json:"status"`
			Exit   string `json:"exitstatus"`
		}
		if err := h.proxmox(ctx, http.MethodGet, "/tasks/"+upid+"/status", nil, &status); err != nil {
			return err
		}
		if status.Status == "stopped" {
			if status.Exit != "OK" {
				return fmt.Errorf("%s %s: %s", method, path, status.Exit)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

func (h *hand) proxmox(ctx context.Context, method, path string, params url.Values, into any) error {
	target := h.w.proxmoxURL + "/api2/json/nodes/pve1" + path
	var body io.Reader
	switch {
	case len(params) == 0:
	case method == http.MethodPost || method == http.MethodPut:
		body = bytes.NewReader([]byte(params.Encode()))
	default:
		target += "?" + params.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "PVEAPIToken="+h.w.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer := struct {
		Data any `json:"data"`
	}{into}
	return h.do(req, &answer)
}

func (h *hand) github(ctx context.Context, token, path string, params, into any) error {
	body, err := json.Marshal(params)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.w.githubURL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("User-Agent", "bench") // GitHub refuses requests without
	return h.do(req, into)
}

func (h *hand) do(req *http.Request, into any) error {
	resp, err := h.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", req.Method, req.URL.Path, resp.Status, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, err)
	}
	return nil
}

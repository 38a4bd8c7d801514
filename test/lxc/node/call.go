package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/lab"
)

// Call makes one request to Proxmox's API as root and returns the data.
func (w *World) Call(method, path string, params map[string]string) (json.RawMessage, error) {
	form := url.Values{}
	for k, v := range params {
		form.Set(k, v)
	}
	target, body := w.API+path, io.Reader(strings.NewReader(form.Encode()))
	if method == http.MethodGet || method == http.MethodDelete {
		target, body = target+"?"+form.Encode(), nil
	}
	req, err := http.NewRequest(method, target, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "PVEAPIToken="+w.root)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Data   json.RawMessage
		Errors json.RawMessage
	}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s %s", method, path, resp.Status, answer.Errors)
	}
	return answer.Data, err
}

// Task makes a request that starts a task, and waits for its end.
func (w *World) Task(method, path string, params map[string]string) error {
	data, err := w.Call(method, path, params)
	if err != nil {
		return err
	}
	var upid string
	if err := json.Unmarshal(data, &upid); err != nil || upid == "" {
		return err
	}
	for {
		data, err := w.Call(http.MethodGet, "/nodes/"+lab.Host+"/tasks/"+upid+"/status", nil)
		var s struct{ Status, ExitStatus string }
		switch {
		case err != nil:
			return err
		case json.Unmarshal(data, &s) != nil:
			return fmt.Errorf("task %s: %s", upid, data)
		case s.Status == "stopped" && (s.ExitStatus == "OK" || strings.HasPrefix(s.ExitStatus, "WARNINGS")):
			return nil
		case s.Status == "stopped":
			return errors.New(s.ExitStatus)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// LXC is the path of something of a container in the API.
func LXC(vmid int, rest string) string {
	return fmt.Sprintf("/nodes/%s/lxc/%d%s", lab.Host, vmid, rest)
}

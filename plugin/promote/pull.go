package promote

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// token is the one that opens the pull request.
func token(c *Config) string { return cmp.Or(c.GitHubToken, c.GitToken, os.Getenv("GITHUB_TOKEN")) }

// pull is a pull request as GitHub's API gives it.
type pull struct {
	Number int    `json:"number"`
	Page   string `json:"html_url"`
}

const (
	asking    = 30 * time.Second
	maxAnswer = 4 << 20
)

// propose opens a pull request for a branch, or renames the one that is open,
// and returns its page.
func (c *Config) propose(ctx context.Context, branch, message string) (string, error) {
	title, body, _ := strings.Cut(message, "\n")
	body = strings.TrimSpace(body)
	owner, _, _ := strings.Cut(c.GitHubRepository, "/")
	var open []pull
	query := url.Values{"state": {"open"}, "head": {owner + ":" + branch}, "base": {c.Branch}}
	if err := c.ask(ctx, http.MethodGet, "/pulls?"+query.Encode(), nil, &open); err != nil {
		return "", fmt.Errorf("look for its pull request: %w", err)
	}
	var p pull
	if len(open) > 0 {
		err := c.ask(ctx, http.MethodPatch, fmt.Sprintf("/pulls/%d", open[0].Number), map[string]string{"title": title, "body": body}, &p)
		if err != nil {
			return "", fmt.Errorf("rename its pull request: %w", err)
		}
		return p.Page, nil
	}
	err := c.ask(ctx, http.MethodPost, "/pulls", map[string]string{"title": title, "body": body, "head": branch, "base": c.Branch}, &p)
	if err != nil {
		return "", fmt.Errorf("open its pull request: %w", err)
	}
	return p.Page, nil
}

func (c *Config) ask(ctx context.Context, method, path string, send, into any) error {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	var body io.Reader
	if send != nil {
		data, err := json.Marshal(send)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.APIURL, "/")+"/repos/"+c.GitHubRepository+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/vnd.github+json")
	req.Header.Set("Authorization", "Bearer "+c.GitHubToken)
	req.Header.Set("User-Agent", "packer-plugin-dayfly")
	tripper := http.DefaultTransport.(*http.Transport).Clone()
	defer tripper.CloseIdleConnections()
	res, err := (&http.Client{Transport: tripper}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return refusal(res, data)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s does not answer like the GitHub API: %w", c.APIURL, err)
	}
	return nil
}

// refusal says what GitHub says, and which permission it wants.
func refusal(res *http.Response, data []byte) error {
	var said struct {
		Message string `json:"message"`
		Errors  []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	_ = json.Unmarshal(data, &said) // a page of a proxy says nothing we could use
	text := "GitHub answers " + res.Status
	if said.Message != "" {
		text += ": " + said.Message
	}
	for _, e := range said.Errors {
		text += ": " + e.Message
	}
	if wants := res.Header.Get("X-Accepted-GitHub-Permissions"); wants != "" && res.StatusCode == http.StatusForbidden {
		text += " (the token needs " + wants + ")"
	}
	return errors.New(text)
}

func loopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

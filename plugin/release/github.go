package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// published is a release as GitHub's API gives it.
type published struct {
	Tag         string    `json:"tag_name"`
	Body        string    `json:"body"`
	PublishedAt time.Time `json:"published_at"`
	Assets      []asset   `json:"assets"`
}

type asset struct {
	Name   string `json:"name"`
	URL    string `json:"browser_download_url"`
	Digest string `json:"digest"` // "sha256:..." on newer releases
}

const maxAnswer = 1 << 20

// ask looks the release up on GitHub.
func (c Config) ask(ctx context.Context) (DatasourceOutput, error) {
	path := "/repos/actions/runner/releases/latest"
	if c.Version != latest {
		path = "/repos/actions/runner/releases/tags/v" + c.Version
	}
	body, err := c.get(ctx, path)
	if err != nil {
		return DatasourceOutput{}, fmt.Errorf("look up runner %s: %w", c.Version, err)
	}
	var p published
	if err := json.Unmarshal(body, &p); err != nil {
		return DatasourceOutput{}, fmt.Errorf("look up runner %s: %s does not answer like the GitHub API: %w", c.Version, c.APIURL, err)
	}
	out, err := p.output(c.Arch)
	if err != nil {
		return DatasourceOutput{}, fmt.Errorf("look up runner %s: %w", c.Version, err)
	}
	return out, nil
}

func (p published) output(arch string) (DatasourceOutput, error) {
	version := strings.TrimPrefix(p.Tag, "v")
	if !ValidVersion(version) {
		return DatasourceOutput{}, fmt.Errorf("the release's tag is %.40q", p.Tag)
	}
	i := slices.IndexFunc(p.Assets, func(a asset) bool { return a.Name == Tarball(version, arch) })
	if i < 0 {
		return DatasourceOutput{}, fmt.Errorf("the release has no %s", Tarball(version, arch))
	}
	sum, err := p.sum(arch, p.Assets[i].Digest)
	if err != nil {
		return DatasourceOutput{}, err
	}
	out := DatasourceOutput{Version: version, Arch: arch, SHA256: sum, URL: p.Assets[i].URL}
	if u, err := url.Parse(out.URL); err != nil || u.Scheme == "" {
		out.URL = URL(version, arch)
	}
	if !p.PublishedAt.IsZero() {
		out.PublishedAt = p.PublishedAt.UTC().Format(time.RFC3339)
	}
	return out, nil
}

// sum is what the notes say between markers that the runner's own release
// workflow writes (actions/runner, releaseNote.md), or what GitHub computed.
// They must not contradict each other.
func (p published) sum(arch, digest string) (string, error) {
	marker := regexp.MustCompile(`<!-- BEGIN SHA linux-` + arch + ` -->\s*([0-9a-fA-F]{64})\s*<!-- END SHA linux-` + arch + ` -->`)
	var notes string
	if m := marker.FindStringSubmatch(p.Body); m != nil {
		notes = strings.ToLower(m[1])
	}
	digest = strings.ToLower(strings.TrimPrefix(digest, "sha256:"))
	switch {
	case notes == "" && !ValidSHA256(digest):
		return "", errors.New("GitHub gives no sha256 for it: give sha256")
	case notes == "":
		return digest, nil
	case ValidSHA256(digest) && digest != notes:
		return "", fmt.Errorf("the release's notes say sha256 %s, GitHub computed %s", notes, digest)
	}
	return notes, nil
}

func (c Config) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.APIURL, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/vnd.github+json")
	req.Header.Set("User-Agent", "packer-plugin-dayfly")
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	tripper := http.DefaultTransport.(*http.Transport).Clone()
	defer tripper.CloseIdleConnections()
	res, err := (&http.Client{Transport: tripper}).Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return body, refusal(res)
}

func refusal(res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusOK:
		return nil
	case res.StatusCode == http.StatusNotFound:
		return errors.New("GitHub has no such release")
	case res.StatusCode == http.StatusUnauthorized:
		return errors.New("GitHub refuses the token")
	case res.Header.Get("X-RateLimit-Remaining") == "0", res.StatusCode == http.StatusTooManyRequests:
		return errors.New("GitHub's rate limit is used up: give a token, or pin version and sha256")
	}
	return fmt.Errorf("GitHub answers %s", res.Status)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

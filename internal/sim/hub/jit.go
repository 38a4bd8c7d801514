package hub

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// jitRequest keeps apart what is absent, what is null and what is there.
type jitRequest struct {
	Name       *string          `json:"name"`
	Group      *GroupID         `json:"runner_group_id"`
	Labels     *json.RawMessage `json:"labels"`
	WorkFolder string           `json:"work_folder"`
}

// maxRunnerName is the longest name a registration may have.
const maxRunnerName = 64

// generateJIT is POST …/actions/runners/generate-jitconfig. It is not
// idempotent: each success registers an offline runner under the name.
func (h *Hub) generateJIT(c *call) answer {
	if c.repo != nil && c.repo.disabled {
		return invalid("Repository level self-hosted runners are disabled")
	}
	req, labels, refusal, good := parseJIT(c.body)
	if !good {
		return refusal
	}
	g, refusal, good := h.usableGroup(c, *req.Group)
	if !good {
		return refusal
	}
	scope := c.scope()
	for _, r := range h.live {
		if r.scope == scope && strings.EqualFold(r.name, *req.Name) {
			return fail(http.StatusConflict, "Already exists - A runner with the name *** already exists.")
		}
	}
	if refusal, good := h.registrationAllowed(scope, g); !good {
		return refusal
	}
	r := h.register(c, *req.Name, g, labels, req.WorkFolder)
	return created(map[string]any{"runner": r.json(), "encoded_jit_config": r.config})
}

func invalid(format string, args ...any) answer {
	return fail(http.StatusUnprocessableEntity, format, args...)
}

// parseJIT checks the body as GitHub's schema validation does.
func parseJIT(body []byte) (jitRequest, []string, answer, bool) {
	var req jitRequest
	refuse := func(a answer) (jitRequest, []string, answer, bool) { return req, nil, a, false }
	if !json.Valid(body) {
		return refuse(badJSON())
	}
	var keys map[string]json.RawMessage
	if json.Unmarshal(body, &keys) != nil {
		return refuse(invalid("Invalid request.\n\nFor 'links/0/schema', %s is not an object.", body))
	}
	for _, key := range []string{"name", "runner_group_id", "labels"} {
		if _, there := keys[key]; !there {
			return refuse(invalid("Invalid input: object is missing required key: %s", key))
		}
	}
	if json.Unmarshal(body, &req) != nil || req.Name == nil || req.Group == nil {
		return refuse(invalid("Invalid request.\n\nFor 'properties/name', nil is not a string."))
	}
	var labels []string
	if string(keys["labels"]) == "null" || json.Unmarshal(keys["labels"], &labels) != nil {
		return refuse(invalid("Invalid request.\n\nFor 'properties/labels', nil is not an array."))
	}
	switch {
	case len(labels) == 0 || len(labels) > 100:
		return refuse(invalid("Invalid request.\n\nFor 'properties/labels', between 1 and 100 items are required."))
	case *req.Name == "" || len(*req.Name) > maxRunnerName:
		return refuse(invalid("Invalid runner name: must be 1 to %d characters long.", maxRunnerName)) // believed
	}
	for _, l := range labels {
		if strings.TrimSpace(l) == "" || len(l) > 256 {
			return refuse(invalid("Invalid label: must be 1 to 256 characters long.")) // believed
		}
	}
	return req, labels, answer{}, true
}

// usableGroup finds the runner group a registration may go to. Groups are an
// organisation's; a repository's runners are in group 1.
func (h *Hub) usableGroup(c *call, id GroupID) (*group, answer, bool) {
	if id == hostedGroup {
		return nil, fail(http.StatusForbidden, "Resource not accessible: runner group is managed by GitHub"), false
	}
	owner := c.org
	if owner == nil {
		owner = c.repo.owner
		if id != defaultGroup {
			return nil, notFound(), false
		}
	}
	if g := owner.group(id); g != nil {
		return g, answer{}, true
	}
	return nil, notFound(), false
}

// registrationAllowed enforces the two limits on registrations.
func (h *Hub) registrationAllowed(scope Scope, g *group) (answer, bool) {
	since := h.clock.Now().Add(-5 * time.Minute)
	recent, inGroup := 0, 0
	for i := len(h.registrations) - 1; i >= 0; i-- {
		r := h.registrations[i]
		if !r.minted.After(since) {
			break
		}
		if r.scope == scope {
			recent++
		}
	}
	if recent >= h.limits.Registrations {
		return h.secondary(5 * time.Minute), false
	}
	if len(h.live) < h.limits.RunnersPerGroup {
		return answer{}, true
	}
	for _, r := range h.live {
		if r.group == g {
			inGroup++
		}
	}
	if inGroup >= h.limits.RunnersPerGroup {
		return invalid("Runner group %s has reached max limit of %d runners", g.name, h.limits.RunnersPerGroup), false
	}
	return answer{}, true
}

// encodeJIT makes a config as GitHub does: base64 of an object of base64
// files, about 4 KiB, with the private key inside. Every value is a string.
func (h *Hub) encodeJIT(r *registration, workFolder string) string {
	if workFolder == "" {
		workFolder = "_work"
	}
	b64 := base64.StdEncoding.EncodeToString
	file := func(v any) string { return b64(must(v)) }
	number := func(n int) string { return b64(h.noise(n)) }
	const pipelines = "https://pipelinesghubeus1.actions.githubusercontent.com/"
	account := b64(h.noise(24))
	files := map[string]string{
		".runner": file(map[string]any{
			"AgentId": strconv.FormatInt(int64(r.id), 10), "AgentName": r.name, "DisableUpdate": "True",
			"Ephemeral": "True", "PoolId": strconv.FormatInt(int64(r.group.id), 10), "PoolName": nil,
			"ServerUrl": pipelines + account + "/", "WorkFolder": workFolder,
			"GitHubUrl":   "https://github.com/" + string(r.scope),
			"ServerUrlV2": h.broker, "UseV2Flow": "true",
		}),
		".credentials": file(map[string]any{"scheme": "OAuth", "data": map[string]string{
			"clientId":                h.uuid(),
			"authorizationUrl":        "https://vstoken.actions.githubusercontent.com/_apis/oauth2/token/" + h.uuid(),
			"requireFipsCryptography": "True",
		}}),
		".credentials_rsaparams": file(map[string]string{
			"d": number(256), "dp": number(128), "dq": number(128), "exponent": "AQAB",
			"inverseQ": number(128), "modulus": number(256), "p": number(128), "q": number(128),
		}),
	}
	return file(files)
}

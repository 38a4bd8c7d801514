// Package github is the adapter to GitHub: App authentication, JIT configs,
// registrations, jobs, missed deliveries, and the parsing of webhooks. It is
// the only importer of go-github.
//
// It decides nothing and remembers only what saves requests: tokens, group
// ids, entity tags, and the limits GitHub named. It never repeats the request
// that mints a JIT config, never follows a redirect, and never lets a secret
// into an error or a log.
//
// Everything below go-github happens in one http.RoundTripper, the wire: it
// is there that an answer becomes one of fleet's errors, because go-github's
// own classification stops every call for up to an hour when one kind of call
// is limited, and knows nothing of 429.
package github

package pve

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ticketLife is how long a ticket is good (PVE::AccessControl).
const ticketLife = 2 * time.Hour

func unauthorized(reason string) error {
	return &refusal{code: http.StatusUnauthorized, message: reason, empty: true}
}

// authenticate finds out who asks: an API token first, then a ticket. A
// request with neither may only log in.
func (r *call) authenticate(path string) error {
	r.c.enter()
	defer r.c.mu.Mutex.Unlock() // changes nothing: what came due is published soon, with what is asked
	if id, secret, ok := apiToken(r.req.Header.Get("Authorization")); ok {
		if !r.c.tokenValid(id, secret) {
			return unauthorized("Authentication failed!")
		}
		r.who = id
		return nil
	}
	if path == "/access/ticket" || path == "/access/domains" && r.req.Method == http.MethodGet {
		return nil
	}
	ticket := authCookie(r.req.Header.Get("Cookie"))
	if ticket == "" {
		return unauthorized("No ticket")
	}
	who, ok := r.c.verify("PVE", ticket)
	if !ok {
		return unauthorized("Authentication failed!")
	}
	if r.req.Method != http.MethodGet {
		if whose, ok := r.c.verifyCSRF(r.req.Header.Get("CSRFPreventionToken"), who); !ok || whose != who {
			return unauthorized("Permission denied - invalid csrf token")
		}
	}
	r.who = who
	return nil
}

// delay is the pause before an authentication failure is answered.
func (r *call) delay() {
	d := r.c.timing.AuthDelay
	if d == 0 {
		d = 3 * time.Second
	}
	r.c.enter()
	defer r.c.mu.Unlock()
	r.sleep(d)
	r.yield()
}

// apiToken reads "PVEAPIToken=user@realm!name=secret", also with a blank after
// the scheme and percent-encoded.
func apiToken(h string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(h, "PVEAPIToken")
	if !ok || len(rest) < 2 || (rest[0] != '=' && rest[0] != ' ') {
		return "", "", false
	}
	rest = rest[1:]
	if u, err := url.PathUnescape(rest); err == nil {
		rest = u
	}
	id, secret, _ = strings.Cut(rest, "=")
	return id, secret, true
}

// authCookie reads the ticket from the cookies.
func authCookie(h string) string {
	for _, part := range strings.Split(h, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		if k == "PVEAuthCookie" {
			if u, err := url.PathUnescape(v); err == nil {
				return u
			}
			return v
		}
	}
	return ""
}

// tokenValid checks a token, its owner and their expiry.
func (c *Cluster) tokenValid(id, secret string) bool {
	u, t := c.access.tokenOf(id)
	if t == nil || !c.userValid(u) || !hmac.Equal([]byte(t.secret), []byte(secret)) {
		return false
	}
	return t.expire == 0 || c.clock.Now().Unix() < t.expire
}

func (c *Cluster) userValid(u *user) bool {
	return u != nil && !u.disabled && (u.expire == 0 || c.clock.Now().Unix() < u.expire)
}

// ticket makes a signed ticket of a kind ("PVE", "PVEVNC") for what follows.
func (c *Cluster) ticket(kind, what string) string {
	body := fmt.Sprintf("%s:%s:%08X", kind, what, c.clock.Now().Unix())
	if what == "" {
		body = fmt.Sprintf("%s:%08X", kind, c.clock.Now().Unix())
	}
	return body + "::" + c.sign(body)
}

func (c *Cluster) sign(body string) string {
	m := hmac.New(sha256.New, c.secret)
	m.Write([]byte(body))
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// verify checks a ticket and returns what it is for.
func (c *Cluster) verify(kind, ticket string) (string, bool) {
	body, sig, ok := strings.Cut(ticket, "::")
	if !ok || !hmac.Equal([]byte(sig), []byte(c.sign(body))) {
		return "", false
	}
	rest, ok := strings.CutPrefix(body, kind+":")
	if !ok {
		return "", false
	}
	i := strings.LastIndexByte(rest, ':')
	at, err := strconv.ParseInt(rest[i+1:], 16, 64)
	if err != nil || !c.fresh(at) {
		return "", false
	}
	who := rest[:max(i, 0)]
	return who, i < 0 || c.userValid(c.access.users[who])
}

// fresh reports whether a ticket made at that second is still good; a clock may
// be off by five minutes the other way.
func (c *Cluster) fresh(at int64) bool {
	age := c.clock.Now().Sub(time.Unix(at, 0))
	return age < ticketLife && age > -5*time.Minute
}

// csrf makes the token that goes with a ticket.
func (c *Cluster) csrf(who string) string {
	at := fmt.Sprintf("%08X", c.clock.Now().Unix())
	return at + ":" + c.sign("CSRF:"+at+":"+who)
}

func (c *Cluster) verifyCSRF(token, who string) (string, bool) {
	at, sig, ok := strings.Cut(token, ":")
	if !ok || !hmac.Equal([]byte(sig), []byte(c.sign("CSRF:"+at+":"+who))) {
		return "", false
	}
	n, err := strconv.ParseInt(at, 16, 64)
	return who, err == nil && c.fresh(n)
}

package hub

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"sync"
	"time"
)

// App is what an operator has of a GitHub App.
type App struct {
	ID       int64
	ClientID string // e.g. Iv23li…
	Slug     string
	PEM      []byte // the private key, PKCS #1, as GitHub hands it out
}

// processKey is the App key of every hub in this process: making an RSA key
// takes a hundred times as long as a whole simulated world.
var processKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(fmt.Sprintf("hub: generate app key: %v", err))
	}
	return key
})

const appSlug = "dayfly-sim"

// App returns the App's identity and its private key.
func (h *Hub) App() App {
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(h.appKey)}
	return App{ID: h.appID, ClientID: h.clientID, Slug: appSlug, PEM: pem.EncodeToMemory(block)}
}

// Permissions are an App's or a token's, e.g. {"actions": "read"}.
type Permissions map[string]string

// allows reports whether p grants at least what need asks for.
func (p Permissions) allows(name, level string) bool {
	have := p[name]
	return have == level || have == "write" && level == "read" || have == "admin"
}

// DefaultPermissions is what dayfly's App asks for.
func DefaultPermissions() Permissions {
	return Permissions{
		"administration": "write", "organization_self_hosted_runners": "write",
		"actions": "read", "metadata": "read",
	}
}

// Installation describes where the App is installed.
type Installation struct {
	Account      string      // an organisation or user, e.g. acme
	User         bool        // the account is a user, not an organisation
	Repositories []string    // names in the account; nil means all
	Permissions  Permissions // nil means DefaultPermissions
}

// InstallationID is an installation's id, e.g. 48291734.
type InstallationID int64

type installation struct {
	id          InstallationID
	account     *account
	all         bool
	selected    map[RepositoryID]bool
	permissions Permissions
	created     time.Time
	suspended   time.Time
	deleted     bool
}

// AddInstallation installs the App in an account, which it creates when there
// is none of that name; repositories in it that do not exist yet as well
// (private ones). An `installation` event is sent.
func (h *Hub) AddInstallation(in Installation) InstallationID {
	h.enter()
	defer h.leave()
	acc := h.addAccount(in.Account, in.User)
	i := &installation{
		id: InstallationID(40_000_000 + h.number()), account: acc, all: in.Repositories == nil,
		selected: map[RepositoryID]bool{}, permissions: in.Permissions, created: h.clock.Now(),
	}
	if i.permissions == nil {
		i.permissions = DefaultPermissions()
	}
	for _, name := range in.Repositories {
		i.selected[h.addRepository(Repository{Name: acc.login + "/" + name, Private: true}).id] = true
	}
	h.installations = append(h.installations, i)
	h.sendInstallation(i, "created")
	return i.id
}

// covers reports whether the App may see the repository.
func (i *installation) covers(r *repository) bool {
	return !i.deleted && r.owner == i.account && (i.all || i.selected[r.id])
}

func (h *Hub) installationByID(id int64) *installation {
	for _, i := range h.installations {
		if int64(i.id) == id && !i.deleted {
			return i
		}
	}
	return nil
}

func (h *Hub) installationOf(r *repository) *installation {
	for _, i := range h.installations {
		if i.covers(r) {
			return i
		}
	}
	return nil
}

// Suspend suspends the installation, or ends its suspension: no token is minted
// and none works meanwhile, and no repository event is sent.
func (h *Hub) Suspend(id InstallationID, suspended bool) {
	h.enter()
	defer h.leave()
	i := h.installationByID(int64(id))
	if i == nil {
		return
	}
	action := "unsuspend"
	i.suspended = time.Time{}
	if suspended {
		action = "suspend"
		i.suspended = h.clock.Now()
	}
	h.sendInstallation(i, action)
}

// Uninstall deletes the installation and with it its tokens.
func (h *Hub) Uninstall(id InstallationID) {
	h.enter()
	defer h.leave()
	if i := h.installationByID(int64(id)); i != nil {
		h.sendInstallation(i, "deleted")
		i.deleted = true
	}
}

// Grant changes what the installation may do, as an owner who accepts new
// permissions does; tokens minted before keep what they had (believed).
func (h *Hub) Grant(id InstallationID, p Permissions) {
	h.enter()
	defer h.leave()
	if i := h.installationByID(int64(id)); i != nil {
		i.permissions = p
		h.sendInstallation(i, "new_permissions_accepted")
	}
}

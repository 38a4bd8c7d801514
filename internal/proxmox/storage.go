package proxmox

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// fullOnly are the types of storage that can hold a container template but
// make no linked clones of it: their linked clones would be qcow2, and
// containers are raw or subvol only (pve-storage, Plugin.pm).
var fullOnly = []string{"dir", "nfs", "cifs", "cephfs", "glusterfs"}

// typesFor is how long the types of storages are believed.
const typesFor = 10 * time.Minute

// storages remembers which storages make no linked clones.
type storages struct {
	mu     sync.Mutex
	types  map[string]string
	asked  time.Time
	unable map[string]bool // said so in an error
}

// full reports whether clones on the storage must be full ones. What cannot be
// known is taken for linked: Proxmox then refuses, and that is remembered.
func (c *Client) full(ctx context.Context, storage string) bool {
	s := &c.storages
	s.mu.Lock()
	fresh := time.Since(s.asked) < typesFor
	s.mu.Unlock()
	if !fresh {
		c.askStorages(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unable[storage] || slices.Contains(fullOnly, s.types[storage])
}

// askStorages reads the storages that the token may see. It is answered from
// storage.cfg, without touching a storage, unlike /nodes/N/storage.
func (c *Client) askStorages(ctx context.Context) {
	var list []struct {
		Storage text `json:"storage"`
		Type    text `json:"type"`
	}
	if err := c.get(ctx, "/storage", nil, &list); err != nil {
		return // the error text of a clone teaches the same
	}
	types := map[string]string{}
	for _, s := range list {
		types[string(s.Storage)] = string(s.Type)
	}
	s := &c.storages
	s.mu.Lock()
	defer s.mu.Unlock()
	s.types, s.asked = types, time.Now()
}

var noLinked = regexp.MustCompile(`Linked clone feature for '([^':]+):[^']*' is not available`)

// learnFull remembers from a refusal that a storage makes no linked clones.
func (c *Client) learnFull(err error) bool {
	m := noLinked.FindStringSubmatch(err.Error())
	if m == nil {
		return false
	}
	s := &c.storages
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unable == nil {
		s.unable = map[string]bool{}
	}
	s.unable[strings.TrimSpace(m[1])] = true
	return true
}

// Stores lists the storages of a node that may hold containers and that the
// token may see (Datastore.Audit or Datastore.AllocateSpace), with what is free
// on them. Unlike the answers from Proxmox's own files it asks the storages
// themselves, and waits for one that hangs.
func (c *Client) Stores(ctx context.Context, node string) ([]fleet.Store, error) {
	asOf := time.Now()
	var list []struct {
		Storage text    `json:"storage"`
		Active  boolean `json:"active"`
		Shared  boolean `json:"shared"`
		Avail   integer `json:"avail"`
	}
	query := url.Values{"content": {"rootdir"}, "enabled": {"1"}}
	if err := c.get(ctx, "/nodes/"+url.PathEscape(node)+"/storage", query, &list); err != nil {
		return nil, fmt.Errorf("list storages of node %s: %w", node, err)
	}
	var stores []fleet.Store
	for _, s := range list {
		if s.Active { // one that is not says nothing of what is free
			stores = append(stores, fleet.Store{Name: string(s.Storage), Shared: bool(s.Shared), FreeMiB: int(s.Avail >> 20), AsOf: asOf})
		}
	}
	return stores, nil
}

// Package node is a node with real containers for tests and measurements: the
// simulated Proxmox and GitHub in the sandbox of internal/sim/lab, and templates
// that a real packer has baked there. It works in the sandbox only (lab.Main).
package node

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// Where things are in every such world.
const (
	Org       = "acme"
	Scope     = Org + "/app"
	FirstVMID = 20000 // of the range of runners
	BaseImage = "local:vztmpl/debian-13-lab_amd64.tar"
)

// World is one node with real containers, and a GitHub.
type World struct {
	*sim.World
	API          string // URL of Proxmox's API
	Token        string // the daemon's
	Builder      string // the token that bakes
	Broker       string // host:port of GitHub's half for runners, which containers reach
	Installation hub.InstallationID

	root    string // token of root@pam
	vmids   atomic.Int64
	cloning sync.Mutex
}

// New makes a world. Of cfg, what makes its containers real is filled in.
func New(cfg sim.Config) (*World, error) {
	broker, err := net.Listen("tcp", lab.Gateway+":0")
	if err != nil {
		return nil, fmt.Errorf("make a node: %w", err)
	}
	api, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		_ = broker.Close()
		return nil, fmt.Errorf("make a node: %w", err)
	}
	w := &World{Broker: broker.Addr().String(), API: "http://" + api.Addr().String() + "/api2/json"}
	cfg.PVE.Nodes, cfg.PVE.Machine = []string{lab.Host}, new(lab.Machine)
	cfg.Hub.Broker = "http://" + w.Broker + "/"
	w.World = sim.New(cfg)
	for l, h := range map[net.Listener]http.Handler{broker: w.GitHub.Broker(), api: w.ProxmoxAPI()} {
		srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
		go func() { _ = srv.Serve(l) }() // until the sandbox is gone
	}
	w.Token, w.Builder = pve.Lab(w.Proxmox), pve.LabBuilder(w.Proxmox)
	w.root = "root@pam!test=" + w.Proxmox.AddToken("root@pam!test", false)
	w.Installation = w.GitHub.AddInstallation(hub.Installation{Account: Org, Repositories: []string{"app"}})
	w.vmids.Store(FirstVMID)
	return w, w.Archives(map[string]func() (string, error){filepath.Base(BaseImage): lab.Debian, "busybox_amd64.tar": lab.Busybox})
}

// NextVMID is a number of the runners' range that no container had.
func (w *World) NextVMID() int { return int(w.vmids.Add(1)) }

// Archives puts base images on the storage "local", each under a name like
// debian-13_amd64.tar.
func (w *World) Archives(list map[string]func() (string, error)) error {
	s := pve.Storage{ID: "local", Type: "dir", Path: lab.ArchiveDir, Content: []string{"vztmpl"}}
	files, err := filepath.Glob(filepath.Join(lab.ArchiveDir, "template/cache/*"))
	if err != nil {
		return err
	}
	for name, image := range list {
		path, err := image()
		if err == nil {
			err = lab.Archive(path, name)
		}
		if err != nil {
			return err
		}
		files = append(files, name)
	}
	for _, f := range files {
		s.Files = append(s.Files, pve.Archive{Name: "vztmpl/" + filepath.Base(f), Size: 100 << 20})
	}
	w.Proxmox.AddStorage(s)
	return nil
}

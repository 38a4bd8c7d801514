package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Options are parameters of a request to the API, and a container's
// configuration by its own names.
type Options map[string]any

// Create begins to make a container from a base image; options are those of
// the API, ostemplate among them. ErrExists says that the VMID is taken, and
// that nothing was made. After fleet.ErrUnknownOutcome the container may exist.
//
// The request itself is not given up when ctx ends: its answer names the task
// that has to be cleaned up after.
func (b *Builder) Create(ctx context.Context, node string, id fleet.VMID, options Options) (Task, error) {
	params := map[string]any{"vmid": id}
	for k, v := range options {
		params[k] = v
	}
	begin := time.Now()
	path := "/nodes/" + url.PathEscape(node) + "/lxc"
	task, err := b.c.post(context.WithoutCancel(ctx), path, params)
	if unknown(err) {
		task, err = b.find(ctx, node, "vzcreate", id, id, begin, anyTask, err)
	}
	if err != nil {
		return "", fmt.Errorf("create container %d on node %s: %w", id, node, err)
	}
	return Task(task), nil
}

// Copy begins to clone container source to id, on the node of the source;
// options are those of the API. The kinds of errors are those of Create, and
// ErrLocked while another clone of the source runs.
func (b *Builder) Copy(ctx context.Context, node string, source, id fleet.VMID, options Options) (Task, error) {
	params := map[string]any{"newid": id}
	for k, v := range options {
		params[k] = v
	}
	begin := time.Now()
	task, err := b.c.post(context.WithoutCancel(ctx), container(node, source, "/clone"), params)
	if unknown(err) {
		suits := func(t upid) bool { return b.c.clones(ctx, t, id) }
		task, err = b.find(ctx, node, "vzclone", source, id, begin, suits, err)
	}
	if err != nil {
		return "", fmt.Errorf("clone container %d to %d: %w", source, id, err)
	}
	return Task(task), nil
}

// find looks for the task of a request whose answer was lost. on is the id
// that the task has, made the VMID that it makes.
func (b *Builder) find(ctx context.Context, node, kind string, on, made fleet.VMID, begin time.Time, suits func(upid) bool, cause error) (upid, error) {
	free := 0
	for looks := newLooks(); looks.next(ctx); {
		task, ok, err := b.c.begun(ctx, node, kind, on, begin, suits)
		if err != nil {
			continue
		}
		if ok {
			b.adopt(task)
			return task, nil
		}
		taken, err := b.c.Taken(ctx, made)
		if err != nil || taken {
			continue
		}
		if free++; free >= enoughLooks {
			return "", fmt.Errorf("%w; VMID %d is still free", nothingSeen(cause), made)
		}
	}
	return "", cause
}

// Migrate begins to move a stopped container to another node, its volumes to
// that storage there; empty: to the one of the same name. After
// fleet.ErrUnknownOutcome it may be on either node.
func (b *Builder) Migrate(ctx context.Context, node string, id fleet.VMID, target, storage string) (Task, error) {
	params := map[string]any{"target": target}
	if storage != "" {
		params["target-storage"] = storage
	}
	begin := time.Now()
	task, err := b.c.post(context.WithoutCancel(ctx), container(node, id, "/migrate"), params)
	if unknown(err) {
		found, ok := b.begunSince(ctx, node, "vzmigrate", id, begin)
		if ok {
			task, err = found, nil
		}
	}
	if err != nil {
		return "", fmt.Errorf("migrate container %d to node %s: %w", id, target, err)
	}
	return Task(task), nil
}

// begunSince looks for the task of a request whose answer was lost.
func (b *Builder) begunSince(ctx context.Context, node, kind string, on fleet.VMID, begin time.Time) (upid, bool) {
	for looks := newLooks(); looks.next(ctx); {
		if found, ok, err := b.c.begun(ctx, node, kind, on, begin, anyTask); err == nil && ok {
			return found, true
		}
	}
	return "", false
}

// NeedsFull reports whether err is Proxmox's refusal to make a linked clone,
// and remembers the storage.
func (b *Builder) NeedsFull(err error) bool { return err != nil && b.c.learnFull(err) }

// Download begins to fetch a base image to a storage; what is there already is
// checked against the checksum instead (pve-common, Tools.pm).
func (b *Builder) Download(ctx context.Context, node, storage string, options Options) (Task, error) {
	path := "/nodes/" + url.PathEscape(node) + "/storage/" + url.PathEscape(storage) + "/download-url"
	begin := time.Now()
	task, err := b.c.post(context.WithoutCancel(ctx), path, options)
	if unknown(err) {
		if found, ok := b.begunSince(ctx, node, "download", 0, begin); ok {
			return Task(found), nil
		}
	}
	if err != nil {
		return "", fmt.Errorf("download base image to storage %s: %w", storage, err)
	}
	return Task(task), nil
}

// Convert makes a template of a stopped container and waits until it is one.
// Proxmox does not name the task: it is looked for, and the configuration has
// the last word.
func (b *Builder) Convert(ctx context.Context, node string, id fleet.VMID) error {
	err := b.convert(ctx, node, id)
	if err != nil {
		return fmt.Errorf("convert container %d to a template: %w", id, err)
	}
	return nil
}

func (b *Builder) convert(ctx context.Context, node string, id fleet.VMID) error {
	ctx, cancel := context.WithTimeout(ctx, b.conf.TaskTimeout)
	defer cancel()
	begin := time.Now()
	path := container(node, id, "/template")
	sent := unwrap(http.MethodPost, path, b.c.api.Post(context.WithoutCancel(ctx), path, nil, nil))
	if sent != nil && !unknown(sent) {
		return sent
	}
	idle := 0
	for nap := firstPoll; ; nap = min(nap*3/2, b.c.longest) {
		task, ok, err := b.c.begun(ctx, node, "vztemplate", id, begin, anyTask)
		if err == nil && ok {
			if err := b.c.wait(ctx, task); err != nil {
				return err
			}
		}
		s, look := b.c.settings(ctx, node, id)
		switch {
		case look == nil && s.converted():
			return nil
		case look == nil && err == nil && !ok && sent != nil:
			if idle++; idle >= enoughLooks {
				return sent // no trace of the request
			}
		}
		if err := sleep(ctx, nap); err != nil {
			return &Error{Method: http.MethodPost, Path: path, Reason: "not seen to become a template: " + err.Error(),
				Kind: fleet.ErrUnknownOutcome, Cause: err}
		}
	}
}

// converted reports whether a configuration is that of a finished template: a
// PUT of template=1 sets the flag alone, without base volumes.
func (s settings) converted() bool {
	volume, _, _ := strings.Cut(strings.TrimPrefix(string(s["rootfs"]), "volume="), ",")
	_, name, _ := strings.Cut(volume, ":")
	return s["template"].bool() && strings.HasPrefix(name[strings.LastIndex(name, "/")+1:], "base")
}

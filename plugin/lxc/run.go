package lxc

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/uuid"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// begin makes what the steps work with. It changes nothing.
func (b *Builder) begin(ctx context.Context, ui packersdk.Ui) (*build, error) {
	conf := &b.conf
	api, err := conf.builder(&apiLog{})
	if err != nil {
		return nil, err
	}
	run := &build{conf: conf, api: api, ui: ui}
	run.node, err = conf.nodeShell(ctx)
	if err != nil {
		api.Close()
		return nil, err
	}
	run.info = proxmox.TemplateInfo{
		Schema: 1, Family: conf.TemplateFamily, Version: conf.TemplateVersion, State: "building",
		Build: uuid.TimeOrderedUUID(), Run: os.Getenv("PACKER_RUN_UUID"), By: thisProcess(), Started: time.Now().UTC().Truncate(time.Second),
		Features: conf.features(), Commit: conf.commit(ctx),
	}
	return run, nil
}

// end gives back what begin took.
func (b *build) end() {
	b.api.Close()
	if b.node != nil {
		if err := b.node.Close(); err != nil {
			log.Printf("close connection to the node: %v", err)
		}
	}
}

// needsKey reports whether a key is made for this build. One of the user's is
// used where there is one.
func (b *build) needsKey() bool {
	c := &b.conf.Comm
	return c.Type == "ssh" && c.SSHPassword == "" && !c.SSHAgentAuth
}

// commit is the git commit that the template is made from, as far as it can be
// known.
func (c *Config) commit(ctx context.Context) string {
	if c.TemplateCommit != "" {
		return c.TemplateCommit
	}
	git := func(args ...string) string {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, "git", args...).Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	head := git("rev-parse", "HEAD")
	if head != "" && git("status", "--porcelain", "--untracked-files=no") != "" {
		head += "-dirty"
	}
	return head
}

// thisProcess names this process so that a later build on the same machine can
// tell whether it still runs: machine, process id, and when it was started, as
// process ids are used again.
func thisProcess() string {
	return fmt.Sprintf("%s:%d:%s", machine(), os.Getpid(), startOf(os.Getpid()))
}

// machine names what process ids mean something in: the host since it was
// booted, and the container on it. Host names are not unique.
func machine() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	space, _ := os.Readlink("/proc/self/ns/pid")
	sum := sha256.Sum256(append(boot, space...))
	return fmt.Sprintf("%s/%x", strings.ReplaceAll(host, ":", "_"), sum[:6])
}

// startOf is when a process was started, in ticks since boot; nothing where
// there is no /proc, or no such process, or one that only waits to be reaped.
func startOf(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field is in parentheses and may hold anything (proc(5)).
	rest := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
	fields := strings.Fields(rest)
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}

// dead reports whether the build that made something surely runs no more. A
// process of this machine is looked at, however long it has run; of any other,
// only its age is known.
func dead(info proxmox.TemplateInfo, age time.Duration) bool {
	pid, start, known := processOf(info.By)
	if !known {
		return time.Since(info.Started) > age
	}
	return startOf(pid) != start
}

// processOf is the process that thisProcess named, if it is one of this machine
// and can be looked at.
func processOf(by string) (pid int, start string, known bool) {
	parts := strings.Split(by, ":")
	if len(parts) != 3 || parts[0] != machine() || parts[2] == "" || startOf(os.Getpid()) == "" {
		return 0, "", false
	}
	pid, err := strconv.Atoi(parts[1])
	return pid, parts[2], err == nil
}

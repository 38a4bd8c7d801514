package lxc

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"log"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

//go:embed seal.sh
var sealScript string

// FactsFile is where a provisioner tells the builder what it has put into the
// template: the JSON object of the template's manifest, of which runner,
// runner_sha256, docker, storage_driver, os and contract are read.
const FactsFile = "/etc/dayfly/template.json"

// stepSeal reads what the manifest says of the inside, and makes the container
// fit to be cloned.
type stepSeal struct{}

// Run implements multistep.Step.
func (*stepSeal) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	comm, ok := state.Get("communicator").(packersdk.Communicator)
	if !ok || b.conf.Comm.Type == "none" {
		return multistep.ActionContinue
	}
	b.readFacts(comm)
	if !on(b.conf.Seal, true) {
		return multistep.ActionContinue
	}
	b.ui.Say("Sealing it: machine-id, host keys, package lists, logs...")
	if err := b.seal(ctx, comm); err != nil {
		return halt(state, fmt.Errorf("seal container %d: %w", b.vmid, err))
	}
	return multistep.ActionContinue
}

// Cleanup implements multistep.Step.
func (*stepSeal) Cleanup(multistep.StateBag) {}

// seal runs the script with the temporary key's public half, which it removes.
func (b *build) seal(ctx context.Context, comm packersdk.Communicator) error {
	var key string
	if fields := strings.Fields(string(b.conf.Comm.SSHPublicKey)); b.needsKey() && len(fields) > 1 && b.conf.Comm.SSHPrivateKeyFile == "" {
		key = fields[1]
	}
	var complaint bytes.Buffer
	// In the command itself: a script file would have to be removed by itself.
	cmd := &packersdk.RemoteCmd{Command: "key='" + key + "'\n" + sealScript, Stderr: &complaint}
	if b.conf.Comm.Type == "ssh" && b.conf.Comm.SSHUsername != "root" {
		cmd.Command = "sudo -n sh -c '" + strings.ReplaceAll(cmd.Command, "'", `'\''`) + "'"
	}
	if err := comm.Start(ctx, cmd); err != nil {
		return err
	}
	if status := cmd.Wait(); status != 0 {
		return fmt.Errorf("exit status %d: %s", status, strings.TrimSpace(complaint.String()))
	}
	return nil
}

// readFacts completes the manifest. What is not there stays empty: any
// template can be built, not only one of runners.
func (b *build) readFacts(comm packersdk.Communicator) {
	var release, facts bytes.Buffer
	if err := comm.Download("/etc/os-release", &release); err == nil {
		b.info.OS = prettyName(release.String())
	}
	if err := comm.Download(FactsFile, &facts); err != nil {
		log.Printf("no %s: %v", FactsFile, err)
		return
	}
	var said proxmox.TemplateInfo
	if err := json.Unmarshal(facts.Bytes(), &said); err != nil {
		b.ui.Error(fmt.Sprintf("%s is not read: %v", FactsFile, err))
		return
	}
	os := b.info.OS
	inherit(&b.info, said)
	if b.info.OS == "" {
		b.info.OS = os
	}
}

// prettyName is the name in an os-release file.
func prettyName(text string) string {
	for _, l := range strings.Split(text, "\n") {
		if name, ok := strings.CutPrefix(l, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(name), `"'`)
		}
	}
	return ""
}

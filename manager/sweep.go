package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// sweepOptions are the flags of "dayfly sweep".
type sweepOptions struct {
	config, ca string
	age        time.Duration
	yes        bool
}

func (p *program) sweepCommand() *cobra.Command {
	var o sweepOptions
	cmd := p.reads(&cobra.Command{
		Use:   "sweep",
		Short: "find and remove what dead builds of templates have left",
		Long: `Find what dead builds of templates have left: containers and templates that
"packer build" has begun and not finished, as it was killed or told to leave
them, and templates that were replaced while they had clones. No job ever runs
on them, but they take room.

Without --yes nothing is removed. What began less than --age ago may be of a
build that still runs, and is left alone. What no call of the API removes is
told with the command that does.

Proxmox is asked directly, without a daemon, as "packer build" asks it: with
PROXMOX_URL, PROXMOX_USERNAME and PROXMOX_TOKEN or PROXMOX_PASSWORD of the
environment. What they leave out comes from the daemon's configuration, whose
token may look at templates but not remove them.

What runners leave, the daemon removes by itself; "dayfly status" tells what
it cannot.

exit codes: 0 nothing to remove, or all of it removed; 1 error, or something
is left; 2 something to remove, or wrong usage.`,
		Example: "  dayfly sweep\n  dayfly sweep --age 2h --yes",
		GroupID: groupOther,
		Args:    takes(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.sweep(cmd.Context(), o) },
	})
	cmd.Flags().StringVar(&o.config, "config", defaultConfig, "the daemon's configuration, a `FILE`")
	cmd.Flags().StringVar(&o.ca, "ca-file", "", "`FILE` with the certificate authority of PROXMOX_URL, in PEM form")
	cmd.Flags().DurationVar(&o.age, "age", 24*time.Hour, "`DURATION` after which a build counts as dead")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "remove what can be removed")
	return cmd
}

// Verdicts on remains.
const (
	verdictRemove  = "remove"
	verdictWait    = "wait"
	verdictHand    = "by hand"
	verdictRemoved = "removed"
	verdictLeft    = "left"
)

// found is one thing that a build has left, and what becomes of it: what
// --json prints.
type found struct {
	VMID     fleet.VMID `json:"vmid"`
	Node     string     `json:"node"`
	Name     string     `json:"name"`
	Template string     `json:"template,omitempty"` // FAMILY@VERSION that was to be
	State    string     `json:"state,omitempty"`
	Began    time.Time  `json:"began,omitzero"`
	Verdict  string     `json:"verdict"`
	Reason   string     `json:"reason"`
	Command  string     `json:"command,omitempty"` // for root on the node

	remains proxmox.Remains
	denied  bool // the token may not remove it
}

func (p *program) sweep(ctx context.Context, o sweepOptions) error {
	if o.age < 0 {
		return usageError{fmt.Errorf("--age %s: want a time that has passed", o.age)}
	}
	conf, err := p.sweepAccess(o)
	if err != nil {
		return err
	}
	api, err := proxmox.NewBuilder(conf)
	if err != nil {
		return hinted{err, "set PROXMOX_URL, PROXMOX_USERNAME and PROXMOX_TOKEN as for packer build"}
	}
	defer api.Close()
	list, err := lookForRemains(ctx, api, o.age)
	if err != nil {
		return err
	}
	if o.yes {
		removeRemains(ctx, api, list)
	}
	if err := p.printRemains(list); err != nil {
		return err
	}
	return sweepVerdict(list)
}

// sweepAccess is the environment's way to Proxmox, as Packer's, completed by
// the daemon's configuration.
func (p *program) sweepAccess(o sweepOptions) (proxmox.BuilderConfig, error) {
	conf := proxmox.BuilderConfig{
		URL: os.Getenv("PROXMOX_URL"), User: os.Getenv("PROXMOX_USERNAME"),
		Token: fleet.NewSecret(os.Getenv("PROXMOX_TOKEN")), Password: fleet.NewSecret(os.Getenv("PROXMOX_PASSWORD")),
	}
	if o.ca != "" {
		pem, err := os.ReadFile(o.ca)
		if err != nil {
			return conf, fmt.Errorf("read certificate authority: %w", err)
		}
		conf.CA = pem
	}
	if conf.URL != "" && conf.User != "" {
		return conf, nil
	}
	c, diags, err := readConfig(o.config)
	if err != nil {
		return conf, hinted{err, "set PROXMOX_URL, PROXMOX_USERNAME and PROXMOX_TOKEN, or name the daemon's configuration with --config"}
	}
	if !diags.list.HasErrors() {
		c.readSecrets(diags, os.Getenv("CREDENTIALS_DIRECTORY"), false)
	}
	if n := len(diags.list); n > 0 {
		return conf, hinted{fmt.Errorf("configuration %s: %s", o.config, plural(n, "error")),
			fmt.Sprintf(`check it with "dayfly validate --config %s"`, o.config)}
	}
	if conf.URL == "" {
		conf.URL = c.Proxmox.URL
	}
	// The certificate is checked as the daemon checks it.
	if conf.URL == c.Proxmox.URL {
		conf.ServerName = c.Proxmox.ServerName
		if o.ca == "" {
			conf.CA = c.Proxmox.CA
		}
	}
	if conf.User == "" {
		user, secret, _ := strings.Cut(c.Proxmox.Token.Reveal(), "=")
		conf.User, conf.Token = user, fleet.NewSecret(secret)
	}
	return conf, nil
}

// lookForRemains asks every node that is online.
func lookForRemains(ctx context.Context, api *proxmox.Builder, age time.Duration) ([]*found, error) {
	nodes, err := api.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	var list []*found
	for _, n := range nodes {
		if !n.Online {
			list = append(list, &found{Node: n.Name, Verdict: verdictWait, Reason: "the node is not online: nobody knows what is on it"})
			continue
		}
		remains, err := api.Remains(ctx, n.Name)
		if err != nil {
			return nil, err
		}
		for _, r := range remains {
			list = append(list, judge(r, time.Now(), age))
		}
	}
	return list, nil
}

// judge says what is to become of remains, and why.
func judge(r proxmox.Remains, now time.Time, limit time.Duration) *found {
	f := &found{VMID: r.VMID, Node: r.Node, Name: r.Name, State: r.Info.State, Began: r.Began(), remains: r}
	if r.Info.Family != "" {
		f.Template = r.Info.Ref().String()
	}
	old := now.Sub(f.Began)
	switch {
	case r.Unreadable != "":
		f.byHand("it is tagged " + proxmox.BuildingTag + ", but nothing says by which build: " + r.Unreadable)
	case f.Began.IsZero():
		f.byHand("its manifest does not say when its build began")
	case old < limit:
		f.Verdict, f.Reason = verdictWait, fmt.Sprintf("its build began %s ago and may still run", age(old))
	case r.Lock != "":
		f.byHand(fmt.Sprintf("it is locked (%s), and no call of the API removes a lock", r.Lock))
	case r.Info.State == "replaced":
		f.Verdict, f.Reason = verdictRemove, "another template of the version has replaced it"
	default:
		f.Verdict, f.Reason = verdictRemove, fmt.Sprintf("its build began %s ago and did not finish", age(old))
	}
	return f
}

// byHand leaves it to root on the node.
func (f *found) byHand(reason string) {
	f.Verdict, f.Reason = verdictHand, reason
	f.Command = fmt.Sprintf("pct destroy %d --force --purge", f.VMID)
	if f.remains.Lock != "" {
		f.Command = fmt.Sprintf("pct unlock %d; %s", f.VMID, f.Command)
	}
}

// removeRemains removes what it may. What fails keeps nothing else from going.
func removeRemains(ctx context.Context, api *proxmox.Builder, list []*found) {
	for _, f := range list {
		if f.Verdict != verdictRemove {
			continue
		}
		err := api.Remove(ctx, f.remains)
		switch {
		case err == nil:
			f.Verdict = verdictRemoved
		case errors.Is(err, fleet.ErrInvalid):
			f.Verdict, f.Reason = verdictWait, "it has become something else meanwhile"
		default:
			f.byHand(err.Error())
			f.Verdict, f.denied = verdictLeft, errors.Is(err, fleet.ErrDenied)
		}
	}
}

func (p *program) printRemains(list []*found) error {
	if p.json {
		return writeJSON(p.out, map[string]any{"remains": append([]*found{}, list...)})
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(p.out, "no build has left anything")
		return err
	}
	style := styleOf(p.out)
	t := newTable("vmid", "node", "template", "state", "verdict", "reason")
	for _, f := range list {
		id := ""
		if f.VMID != 0 {
			id = fmt.Sprint(f.VMID)
		}
		t.row(id, f.Node, f.Template, f.State, f.Verdict, f.Reason)
	}
	if err := t.write(p.out, style); err != nil {
		return err
	}
	for _, f := range list {
		if f.Command != "" {
			fmt.Fprintf(p.out, "%s as root on node %s: %s\n", style.bold("hint:"), f.Node, f.Command)
		}
	}
	return nil
}

// sweepVerdict ends a sweep: with an error when something was to be removed
// and is left.
func sweepVerdict(list []*found) error {
	n, denied := map[string]int{}, false
	for _, f := range list {
		n[f.Verdict]++
		denied = denied || f.denied
	}
	switch {
	case n[verdictLeft] > 0 && denied:
		return hinted{fmt.Errorf("sweep: %s left", plural(n[verdictLeft], "container")),
			"the token needs VM.Allocate and VM.PowerMgmt on the resource pool of the templates, which the daemon's does not have"}
	case n[verdictLeft] > 0:
		return fmt.Errorf("sweep: %s left", plural(n[verdictLeft], "container"))
	case n[verdictRemove] > 0:
		return errNotice
	}
	return nil
}

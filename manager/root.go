package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// program is what the commands share.
type program struct {
	in       io.Reader
	out, err io.Writer
	socket   string // of the daemon that the commands ask
	json     bool   // print one JSON value instead of text
}

// run does what args ask and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{in: stdin, out: stdout, err: stderr}
	root := p.command()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return report(stderr, root.ExecuteContext(ctx))
}

// The groups that "dayfly --help" lists commands under.
const (
	groupServe = "serve"
	groupAsk   = "ask"
	groupOther = "other"
)

const about = `dayfly runs GitHub Actions jobs in throw-away LXC containers on Proxmox VE.

A container is cloned from a versioned template, runs exactly one job and is
destroyed.

exit codes: 0 done, 1 error, 2 wrong usage; "plan", "status" and "fmt --check"
also exit 2 when there is something to do or wrong. Color is left out when the
output is not a terminal or NO_COLOR is set.`

// command makes the command tree.
func (p *program) command() *cobra.Command {
	cobra.EnableCommandSorting = false // listed as added: what is used most comes first
	root := &cobra.Command{
		Use:               "dayfly",
		Short:             "run GitHub Actions jobs in throw-away containers on Proxmox VE",
		Long:              about,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              unknownCommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	root.AddGroup(
		&cobra.Group{ID: groupServe, Title: "serve:"},
		&cobra.Group{ID: groupAsk, Title: "ask the daemon:"},
		&cobra.Group{ID: groupOther, Title: "other:"},
	)
	root.SetUsageTemplate(usage)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return misuse(cmd, err) })
	root.SetHelpCommand(helpCommand())
	root.AddCommand(p.runCommand(), p.hostCommand(), p.demoCommand(),
		p.statusCommand(), p.planCommand(), p.jobsCommand(), p.explainCommand(), p.rolloutCommand(), p.syncCommand(),
		p.validateCommand(), p.fmtCommand(), p.sweepCommand(), p.versionCommand(), p.completionCommand())
	return root
}

// unknownCommand is called when the first argument is no command.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := usageError{fmt.Errorf("unknown command %q", args[0])}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return hinted{err, fmt.Sprintf(`did you mean "dayfly %s"?`, strings.Join(near, `" or "dayfly `))}
	}
	return hinted{err, `run "dayfly --help"`}
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "explain a command",
		GroupID: groupOther,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(cmd.Root(), args)
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// asks adds the flags of a command that asks the daemon.
func (p *program) asks(cmd *cobra.Command) *cobra.Command {
	cmd.GroupID = groupAsk
	cmd.Flags().StringVar(&p.socket, "socket", defaultSocket(), "`PATH` of the daemon's admin socket; $DAYFLY_SOCKET sets another default")
	return cmd
}

// reads adds the flags of a command that only reads.
func (p *program) reads(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&p.json, "json", false, "print JSON; fields may be added, none changes its meaning")
	return cmd
}

const usage = `usage:{{if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND [flags]{{else if .Runnable}}
  {{.UseLine}}{{end}}{{if .HasExample}}

examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}{{$all := .Commands}}{{range $group := .Groups}}

{{.Title}}{{range $all}}{{if and (eq .GroupID $group.ID) (or .IsAvailableCommand (eq .Name "help"))}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableSubCommands}}

run "{{.CommandPath}} COMMAND --help" for more about a command{{end}}
`

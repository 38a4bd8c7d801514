package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (p *program) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "completion SHELL",
		Short:     "print a script that completes dayfly's commands and flags",
		Long:      "Print a script that completes dayfly's commands and flags in SHELL: bash, zsh, fish or powershell.",
		Example:   "  dayfly completion bash > /etc/bash_completion.d/dayfly",
		GroupID:   groupOther,
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Args:      takes("SHELL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(p.out, true)
			case "zsh":
				return root.GenZshCompletion(p.out)
			case "fish":
				return root.GenFishCompletion(p.out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(p.out)
			}
			return misuse(cmd, fmt.Errorf("shell %q: want %s", args[0], oneOf(cmd.ValidArgs)))
		},
	}
}

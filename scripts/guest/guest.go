// Package guest holds what is baked into a template: the steps that provision
// it, and the files that stay in it.
//
// A step is a bash script that runs as root in the guest and may be run again
// at any time; lib.sh says what they share. Below files/ are the units and
// programs that a clone boots with.
package guest

import "embed"

// Files are the scripts, with the paths that they have here.
//
//go:embed *.sh files
var Files embed.FS

// Steps are the scripts to run, in this order.
var Steps = []string{"base.sh", "docker.sh", "runner.sh", "boot.sh"}

// Facts is the file in which the steps say what they found and installed. Its
// keys are those of a template's manifest.
const Facts = "/etc/dayfly/template.json"

// Package pools reads the desired state: HCL pool files, from a directory or
// a git repository, become fleet.Desired, or diagnostics that name file, line
// and column.
//
// The files are untrusted: whoever can push to the repository writes them, and
// the daemon that reads them must not hang, grow or die. Size and nesting are
// checked before parsing (guard.go), and no expression is evaluated before an
// upper bound of its result is known (meter.go). Evaluation is deterministic:
// there is no function that reads a file, a clock, the environment or chance.
//
// The package never applies anything and never keeps state: a Source loads one
// revision at a time, and what was last known to be good is the caller's to
// store, with Encode and Decode.
package pools

// Package began takes note of when a program begins.
package began

import _ "unsafe" // for go:linkname

// At is when this program began, in nanoseconds of the clock that all processes
// of a machine share (CLOCK_MONOTONIC). It is the first that the program does: a
// package that needs no other is set up before those that do.
var At = nanotime()

//go:linkname nanotime runtime.nanotime
func nanotime() int64

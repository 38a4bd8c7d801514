package main

import "syscall"

// leash is for a program that never outlives this one, and whose Ctrl-C is this
// one's.
func leash(end syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: end}
}

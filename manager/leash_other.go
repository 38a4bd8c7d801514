//go:build !linux

package main

import "syscall"

// leash is for a program whose Ctrl-C is this one's. That it does not outlive
// this one, only Linux sees to when this one is killed.
func leash(syscall.Signal) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

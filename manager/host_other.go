//go:build !linux

package main

import (
	"context"
	"errors"
)

func (*program) serveHost(context.Context, string) error {
	return errors.New("the root half runs on Proxmox nodes, which are Linux")
}

//go:build !linux

package main

import (
	"context"
	"errors"
)

var errNoLXC = hinted{errors.New("real containers are LXC's, and so Linux's"), "without --containers lxc, the containers are simulated"}

func (*program) demoLXC(context.Context, demoOptions) error { return errNoLXC }
func (*demo) lxcWorld() error                               { return errNoLXC }
func newLXCRepo(context.Context, string) (*demoRepo, error) { return nil, errNoLXC }
func (*demo) lxcTemplate(string) (string, error)            { return "", errNoLXC }
func (*demo) lxcHost() string                               { return "" }
func (*demo) lxcDay(context.Context) error                  { return errNoLXC }

//go:build linux

// Package lab runs a simulated Proxmox's containers for real: unprivileged LXC
// containers on this machine, in a sandbox of namespaces of its own.
//
// Nothing outside the sandbox is touched: mounts, network, processes, cgroups
// and Proxmox's files are its own, its disk is a file without a name, and a
// keeper process takes all of it away when the program that asked for it ends,
// however it ends. It needs root on Linux; Missing says what else.
//
// What it cannot show: AppArmor, VLAN tags (a bridge for each stands in), LVM
// and ZFS (a btrfs stands in), Proxmox's own overhead.
package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A program that wants a sandbox starts itself three times more: as the keeper
// outside, as the first process inside, and as itself inside.
const (
	stageVariable = "DAYFLY_LAB_STAGE"
	stageKeeper   = "keeper"
	stageInit     = "init"
	stageInside   = "inside"
)

// Files that the stages get from each other, from 3 on.
const (
	leashFile = 3 // keeper: end of file when the program has ended
	lineFile  = 3 // init: the keeper's socket
	diskFile  = 4 // init: the disk
)

// inside is whether this process runs in a sandbox.
var inside = os.Getenv(stageVariable) == stageInside

// Inside reports whether this process runs in a sandbox.
func Inside() bool { return inside }

// Main runs run in a sandbox and returns the code to exit with: for TestMain,
// and for a program that needs a lab. Where there can be no sandbox, run is
// run without, and Missing says why.
func Main(run func() int) int {
	stage := os.Getenv(stageVariable)
	_ = os.Unsetenv(stageVariable)
	var code int
	var err error
	switch stage {
	case stageKeeper:
		code, err = keep()
	case stageInit:
		code, err = first()
	case stageInside:
		return run()
	default:
		if why := Missing(); why != nil {
			if Required() {
				fmt.Fprintln(os.Stderr, why)
				return 1
			}
			return run()
		}
		code, err = enter()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		code = 1
	}
	if stage != "" {
		os.Exit(code) // what comes after Main is for the program itself
	}
	return code
}

// again prepares this program once more, as another stage.
func again(stage string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stageVariable+"="+stage)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// enter starts the keeper and waits for it. The keeper has a session of its
// own, so that what ends us does not end it.
func enter() (int, error) {
	leash, hold, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer hold.Close()
	cmd := again(stageKeeper)
	cmd.ExtraFiles = []*os.File{leash}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = leash.Close()
	if err != nil {
		return 0, err
	}
	relay(cmd.Process)
	return exitCode(cmd.Wait())
}

// relay passes signals on: who runs inside decides what they mean.
func relay(to *os.Process) {
	c := make(chan os.Signal, 8)
	signal.Notify(c, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT)
	go func() {
		for s := range c {
			_ = to.Signal(s)
		}
	}()
}

func exitCode(err error) (int, error) {
	exit, failed := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return 0, nil
	case failed && exit.ExitCode() >= 0:
		return exit.ExitCode(), nil
	}
	return 0, err
}

// keep is the keeper: it starts the sandbox, lends it a way out to the
// packages' servers, and cleans up.
func keep() (int, error) {
	// The sandbox is killed when the thread that has started it ends.
	runtime.LockOSThread()
	groups, err := makeGroups()
	if err != nil {
		return 0, err
	}
	defer groups.remove()
	disk, err := makeDisk()
	if err != nil {
		return 0, err
	}
	line, theirs, err := makeLine()
	if err != nil {
		return 0, err
	}
	cmd := again(stageInit)
	cmd.ExtraFiles = []*os.File{theirs, disk}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(groups.unified.Fd()), Pdeathsig: unix.SIGKILL,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	err = groups.within(cmd.Start)
	_ = theirs.Close()
	_ = disk.Close()
	if err != nil {
		return 0, fmt.Errorf("make namespaces: %w", err)
	}
	relay(cmd.Process)
	go func() {
		_, _ = io.Copy(io.Discard, os.NewFile(leashFile, "leash"))
		_ = cmd.Process.Kill()
	}()
	go lend(line)
	return exitCode(cmd.Wait())
}

// makeLine makes the socket on which the sandbox hands out its listener.
func makeLine() (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(pair[0]), "line"), os.NewFile(uintptr(pair[1]), "line"), nil
}

// first is the sandbox's first process: it sets the sandbox up, starts the
// program in it, and buries what is left behind. When it ends, everything in
// the sandbox does.
func first() (int, error) {
	if err := setUp(); err != nil {
		return 0, fmt.Errorf("set up sandbox: %w", err)
	}
	cmd := again(stageInside)
	cmd.Env = append(cmd.Env, "TMPDIR="+tmpDir)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	relay(cmd.Process)
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR || err == nil && pid != cmd.Process.Pid:
		case err != nil:
			return 0, fmt.Errorf("wait for pid %s: %w", strconv.Itoa(cmd.Process.Pid), err)
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		default:
			return status.ExitStatus(), nil
		}
	}
}

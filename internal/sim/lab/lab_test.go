//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

func TestMain(m *testing.M) { os.Exit(Main(m.Run)) }

// machine is a lab, or skips the test.
func machine(t *testing.T) *Machine {
	t.Helper()
	if err := Missing(); err != nil {
		t.Skip(err)
	}
	return new(Machine)
}

func TestContainerLivesAndDies(t *testing.T) {
	m := machine(t)
	archive, err := Busybox()
	if err != nil {
		t.Fatal(err)
	}
	v := pve.Volume{Storage: "store", Name: "subvol-101-disk-0"}
	for _, step := range []func() error{
		func() error { return m.Make(v) },
		func() error { return m.Unpack(v, archive) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	for boot := range 8 {
		ended, err := m.Start(pve.Launch{VMID: 101, Options: map[string]string{
			"hostname": "one", "unprivileged": "1", "features": "nesting=1", "memory": "256",
			"net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=10.77.0.9/24,host-managed=1,type=veth",
		}, Volumes: map[string]pve.Volume{"rootfs": v}})
		if err != nil {
			t.Fatal(err)
		}
		if boot == 0 { // the others are killed at once
			list, err := m.Interfaces(101)
			if err != nil || !slices.ContainsFunc(list, func(i pve.NetInterface) bool { return i.Name == "eth0" && slices.Contains(i.Inet, "10.77.0.9/24") }) {
				t.Errorf("its interfaces: %+v, %v", list, err)
			}
		}
		began := time.Now()
		if err := m.Kill(101); err != nil {
			t.Fatal(err)
		}
		<-ended
		if took := time.Since(began); took >= killPatience {
			t.Errorf("LXC did not notice that init was killed: %v", took)
		}
	}
	if err := m.Remove(v); err != nil {
		t.Fatal(err)
	}
}

// What the gateway's hardware address is, containers remember: it stays when a
// lower one comes onto the bridge.
func TestGatewayKeepsItsHardwareAddress(t *testing.T) {
	machine(t)
	address := func() string {
		text, err := os.ReadFile("/sys/class/net/" + Bridge + "/address")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := address()
	for _, args := range [][]string{
		{"link", "add", "low", "address", "00:00:00:00:00:01", "type", "veth", "peer", "name", "low-peer"},
		{"link", "set", "low", "master", Bridge, "up"},
	} {
		if err := run("ip", args...); err != nil {
			t.Fatal(err)
		}
	}
	during := address()
	if err := run("ip", "link", "delete", "low"); err != nil {
		t.Fatal(err)
	}
	if after := address(); during != before || after != before {
		t.Errorf("it was %q, then %q and %q", before, during, after)
	}
}

func TestVolumeHoldsWhatItsSizeAllows(t *testing.T) {
	m := machine(t)
	base := pve.Volume{Storage: "store", Name: "base-110-disk-0"}
	clone := pve.Volume{Storage: "store", Name: "subvol-111-disk-0", Size: 16 << 20}
	fill := func(v pve.Volume, name string, size int) error {
		f, err := os.Create(filepath.Join(dir(v), name))
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Write(make([]byte, size)); err != nil {
			return err
		}
		return f.Sync()
	}
	for _, step := range []func() error{
		func() error { return m.Make(base) },
		func() error { return fill(base, "old", 4<<20) },
		func() error { return m.Link(base, clone) },
		func() error { return fill(clone, "new", 8<<20) },
		func() error { return makeSubvolume(filepath.Join(dir(clone), "inside")) }, // as Docker does
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if err := fill(clone, "more", 32<<20); !errors.Is(err, unix.EDQUOT) {
		t.Errorf("a volume of 16 MiB took 32 MiB more: %v", err)
	}
	for _, v := range []pve.Volume{clone, base} {
		if err := m.Remove(v); err != nil {
			t.Error(err)
		}
		if exists(dir(v)) {
			t.Errorf("volume %s is still there", v.Name)
		}
	}
}

func TestContainersThatStartAtOnceAllHaveTheirRules(t *testing.T) {
	m := machine(t)
	options := map[string]string{"net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,firewall=1"}
	var starts sync.WaitGroup
	for vmid := 120; vmid < 132; vmid++ {
		file := "firewall/" + strconv.Itoa(vmid) + ".fw"
		m.Publish(file, "[OPTIONS]\n\nenable: 1\n")
		starts.Go(func() {
			defer m.Publish(file, "")
			if err := m.filterUp(vmid, options); err != nil {
				t.Error(err)
			}
			if err := run("nft", "list", "chain", "bridge", filterTable, fmt.Sprintf("guest-%d-out", vmid)); err != nil {
				t.Errorf("a container has begun without its rules: %v", err)
			}
		})
	}
	starts.Wait()
	for vmid := 120; vmid < 132; vmid++ {
		unfilter(vmid)
	}
	if err := m.filterUp(140, nil); err != nil {
		t.Fatal(err)
	}
	if err := run("nft", "list", "chain", "bridge", filterTable, "guest-120-out"); err == nil {
		t.Error("the rules of a container that ended are still there")
	}
}

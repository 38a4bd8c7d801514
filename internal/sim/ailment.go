package sim

import "github.com/dayfly-ci/dayfly/internal/sim/pve"

// Ailment is what is wrong with one boot of a container.
type Ailment string

// What can be wrong with a guest.
const (
	Well           Ailment = ""
	HangsAtBoot    Ailment = "hang"         // the unit is never reached, a shutdown is ignored
	CrashesAtBoot  Ailment = "crash"        // it powers off before it connects
	NeverRegisters Ailment = "silent"       // it is up, and never connects
	LosesNetwork   Ailment = "no-network"   // the session dies, the container stays
	ExitsEarly     Ailment = "exit-early"   // the runner exits 0 without a job
	CrashesMidJob  Ailment = "crash-in-job" // the container goes down with its job
	NeverEnds      Ailment = "endless"      // the job never ends
	Stubborn       Ailment = "stubborn"     // it ignores a shutdown

	// Of templates alone: no chance draws these.
	Slow         Ailment = "slow"   // everything until it listens takes four times as long
	Mute         Ailment = "mute"   // its smoke checks pass, and no runner ever connects
	NoSpace      Ailment = "full"   // its /run has no room for a JIT config
	BrokenDocker Ailment = "docker" // a smoke check finds it; a job that needs no Docker does not
)

// ailments is every ailment, in the order of GuestFaults' fields.
var ailments = []Ailment{
	HangsAtBoot, CrashesAtBoot, NeverRegisters, LosesNetwork, ExitsEarly, CrashesMidJob, NeverEnds, Stubborn,
}

// GuestFaults is the share of boots with each ailment.
type GuestFaults struct {
	HangsAtBoot, CrashesAtBoot, NeverRegisters, LosesNetwork float64
	ExitsEarly, CrashesMidJob, NeverEnds, Stubborn           float64
}

func (f GuestFaults) shares() []float64 {
	return []float64{
		f.HangsAtBoot, f.CrashesAtBoot, f.NeverRegisters, f.LosesNetwork,
		f.ExitsEarly, f.CrashesMidJob, f.NeverEnds, f.Stubborn,
	}
}

// ailment is what this boot has: what its template bakes in, or what the seed
// draws. It depends on the container and the boot alone, not on what else
// happens in the world.
func (w *World) ailment(run pve.Running) Ailment {
	if a := run.Rootfs[RootfsAilment]; a != "" {
		return Ailment(a)
	}
	f := w.faults()
	p := w.draw("ailment", run.VMID, run.Boot).Float64()
	for i, share := range f.Guest.shares() {
		if p < share {
			return ailments[i]
		}
		p -= share
	}
	return Well
}

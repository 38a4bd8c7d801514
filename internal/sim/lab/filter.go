package lab

func (m *Machine) refilter(vmid int) {}

func unfilter(vmid int) {}

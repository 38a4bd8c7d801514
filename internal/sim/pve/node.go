package pve

// StopNode cuts a node's power: its containers stop, its workers are gone, and
// what they had locked in configurations stays locked.
func (c *Cluster) StopNode(name string) {
	c.enter()
	defer c.mu.Unlock()
	c.stopNode(c.nodes[name])
}

func (c *Cluster) stopNode(n *node) {
	if !n.up {
		return
	}
	n.up = false
	for _, t := range append([]*task(nil), n.tasks...) {
		t.kill()
	}
	for _, t := range c.sorted() {
		if t.node == n.name {
			c.halt(t, "")
		}
	}
	c.dirty()
}

// StartNode gives a node its power back. No container starts by itself.
func (c *Cluster) StartNode(name string) {
	c.enter()
	defer c.mu.Unlock()
	c.startNode(c.nodes[name])
}

func (c *Cluster) startNode(n *node) {
	n.up, n.proxy, n.daemon, n.boot = true, true, true, c.clock.Now()
	c.dirty()
}

// RebootNode is StopNode, and StartNode after Timing.Restart.
func (c *Cluster) RebootNode(name string) {
	c.enter()
	defer c.mu.Unlock()
	n := c.nodes[name]
	c.stopNode(n)
	c.after(c.timing.Restart, func() { c.startNode(n) })
}

// StopDaemon stops a node's pvedaemon: every worker is sent TERM, and what
// runs in the daemon answers 596 once and 595 from then on, while pveproxy
// still answers the rest.
func (c *Cluster) StopDaemon(name string) {
	c.enter()
	defer c.mu.Unlock()
	c.stopDaemon(c.nodes[name], 0)
}

// stopDaemon spares each worker with that probability: it finishes in time.
func (c *Cluster) stopDaemon(n *node, spare float64) {
	n.daemon, n.reset = false, true
	for _, t := range append([]*task(nil), n.tasks...) {
		if t.live && c.rng.Float64() >= spare {
			t.terminate()
		}
	}
}

// StartDaemon starts it again.
func (c *Cluster) StartDaemon(name string) {
	c.enter()
	defer c.mu.Unlock()
	c.nodes[name].daemon = true
}

// RestartDaemon is "systemctl restart pvedaemon": the daemon is away for
// Timing.Restart, and each of its workers either finishes or is interrupted.
func (c *Cluster) RestartDaemon(name string) {
	c.enter()
	defer c.mu.Unlock()
	n := c.nodes[name]
	c.stopDaemon(n, 0.5)
	c.after(c.timing.Restart, func() { n.daemon = true })
}

// StopProxy stops a node's pveproxy: connections to it fail.
func (c *Cluster) StopProxy(name string) {
	c.enter()
	defer c.mu.Unlock()
	c.nodes[name].proxy = false
}

// StartProxy starts it again.
func (c *Cluster) StartProxy(name string) {
	c.enter()
	defer c.mu.Unlock()
	c.nodes[name].proxy = true
}

// Tasks are the UPIDs of a node's tasks that still run.
func (c *Cluster) Tasks(name string) []string {
	c.enter()
	defer c.mu.Unlock()
	var out []string
	for _, t := range c.nodes[name].tasks {
		if t.live {
			out = append(out, t.upid)
		}
	}
	return out
}

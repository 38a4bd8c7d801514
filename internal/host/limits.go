package host

import "time"

// How long the root half takes at most.
const (
	watchBound  = 25 * time.Second // a watch with nothing to tell
	injectBound = 20 * time.Second // for the container and its firewall to be ready
	repairBound = 2 * time.Minute
	slotBound   = 5 * time.Second // for another look into the same container to end
)

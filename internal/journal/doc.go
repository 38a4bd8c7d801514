// Package journal is dayfly's durable memory, one SQLite file: deliveries,
// jobs, runners, intents, the events of each, and a few small facts.
//
// It remembers what Proxmox and GitHub do not: demand heard of, what was about
// to be done when the daemon was killed, which VMIDs cool down, and history.
// Losing it costs latency and history, never a leak. It decides nothing, and it
// has no field for a secret.
//
// What a call wrote is on disk when the call returns. Concurrent calls share a
// transaction and its fsync (see write).
//
// The package keeps no goroutine while nothing is written and never ticks, so
// it works inside a testing/synctest bubble. Close ends what is left: the one
// goroutine that database/sql keeps for each of the two connections.
package journal

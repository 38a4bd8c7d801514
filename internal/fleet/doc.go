// Package fleet is the core of dayfly: from what should exist and what does,
// it decides what to do.
//
// Plan is a pure function. It reads no clock, does no I/O, starts no
// goroutine and cannot fail, so that every decision can be replayed, printed
// and tested. Nothing else in dayfly decides to create or destroy anything.
//
// The package never names a job for a runner: GitHub gives a job to any
// matching runner, so demand and supply are balanced by label set.
package fleet

// Package quick reads descriptors that never block without telling Go's
// scheduler, and writes them. A call that the scheduler knows of wakes the runtime's
// watchdog, which then looks every 20 microseconds whether the call has ended
// and hands its processor to another thread if not: in an emulated guest,
// where every call takes that long, that was half of what a byte's way through
// the harness cost. It owns no descriptor.
package quick

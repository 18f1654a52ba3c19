// Package quick reads and writes files that never block, such as pipes and
// serial ports in non-blocking mode, without telling the Go scheduler of each
// system call. On the single slow processor of an emulated guest the scheduler
// takes such a call for a blocked one, hands the processor to another thread
// and spends more on that than on the call. It owns no file and no policy.
package quick

// Package process runs the programs of a guest: it starts them on
// pipes or a terminal, keeps those until the host dials them, moves bytes between
// them and streams, ends programs with their clients or in time, and tells how
// they ended. It owns every child of the harness and their reaping.
// It mounts nothing, talks no protocol and does not need to be PID 1.
package process

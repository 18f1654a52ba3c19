// Package process runs the programs of a guest: it starts them, keeps their
// pipes until the host dials them, moves bytes between pipes and streams, and
// tells how they ended. It owns every child of the harness and their reaping.
// It mounts nothing, talks no protocol and does not need to be PID 1.
package process

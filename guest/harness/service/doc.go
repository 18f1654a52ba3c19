// Package service answers the host: it is the guest's half of guest/proto, the
// control service and the streams of processes. It owns the order of the
// contract (hello first, an identity before any process) and decides what is
// said to the host; what is done is done by the packages process and machine.
// Whatever garbage a host sends ends that host's connection and nothing else.
package service

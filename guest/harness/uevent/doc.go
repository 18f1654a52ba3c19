// Package uevent tells that the kernel has announced a change of its devices,
// so that whoever waits for one can look again instead of polling. It parses
// nothing of what the kernel says.
package uevent

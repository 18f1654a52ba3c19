// Package machine changes what is the machine's as a whole: its name, its
// clock, its random pool, its loopback interface, and its end. It keeps no
// state of processes and reads nothing that the host sent but the identity.
package machine

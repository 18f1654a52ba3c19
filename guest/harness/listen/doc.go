// Package listen tells when programs of the guest begin to listen. The kernel
// runs a small program of ours in each listen(2) below a group of processes,
// which is only attached while somebody waits. What connects to the programs is
// not its business.
package listen

package api

// GuestMAC is the hardware address of the network device of every guest. It is
// the same for all, as a template is restored for many: each has a link of its
// own.
var GuestMAC = [6]byte{0x02, 0xae, 0x91, 0x50, 0x00, 0x02}

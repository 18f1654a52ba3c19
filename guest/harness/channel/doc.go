// Package channel finds the way from the host into the guest and opens it: a
// vsock device where there is one, else the virtio-serial port named
// aegis.control. It rings the doorbell and accepts what the host dials. It
// does not know what is said on a connection.
package channel

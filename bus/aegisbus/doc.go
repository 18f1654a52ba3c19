// Package aegisbus carries api.Aegis over D-Bus as org.aegisvm.Aegis1: Serve
// exports one, Client is one. The interfaces are described in
// bus/xml/org.aegisvm.Aegis1.xml. It decides nothing; who may call is the bus
// policy's to say (root and the group aegis), and the owner of a new instance
// is who the bus says is calling.
package aegisbus

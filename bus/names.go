package bus

import "github.com/godbus/dbus/v5"

// The well-known names, root paths and main interfaces of our services. The
// digit is the version of the API.
const (
	AegisName     = "org.aegisvm.Aegis1"
	AegisPath     = dbus.ObjectPath("/org/aegisvm/Aegis1")
	AegisManager  = "org.aegisvm.Aegis1.Manager"
	AegisInstance = "org.aegisvm.Aegis1.Instance"
	VmmName       = "org.aegisvm.Vmm1"
	VmmPath       = dbus.ObjectPath("/org/aegisvm/Vmm1")
	VmmManager    = "org.aegisvm.Vmm1.Manager"
	VmmMachine    = "org.aegisvm.Vmm1.Machine"
	ImageName     = "org.aegisvm.Image1"
	ImagePath     = dbus.ObjectPath("/org/aegisvm/Image1")
	ImageManager  = "org.aegisvm.Image1.Manager"
	// AegisWaker is what only the router may ask of aegisd.
	AegisWaker     = "org.aegisvm.Aegis1.Waker"
	RouterName     = "org.aegisvm.Router1"
	RouterPath     = dbus.ObjectPath("/org/aegisvm/Router1")
	RouterManager  = "org.aegisvm.Router1.Manager"
	NetworkName    = "org.aegisvm.Network1"
	NetworkPath    = dbus.ObjectPath("/org/aegisvm/Network1")
	NetworkManager = "org.aegisvm.Network1.Manager"
	NetworkTaps    = "org.aegisvm.Network1.Taps"
	NetworkNames   = "org.aegisvm.Network1.Names"
	LogControlPath = dbus.ObjectPath("/org/freedesktop/LogControl1")
)

// ErrorPrefix is what the names of our own errors begin with; the rest is the
// api.Code.
const ErrorPrefix = "org.aegisvm.Error."

// The interfaces of the D-Bus specification that every object has.
const (
	peerInterface       = "org.freedesktop.DBus.Peer"
	introspectInterface = "org.freedesktop.DBus.Introspectable"
	propertiesInterface = "org.freedesktop.DBus.Properties"
	objectsInterface    = "org.freedesktop.DBus.ObjectManager"
	logInterface        = "org.freedesktop.LogControl1"
)

// The standard error names that this package sends.
const (
	errUnknownObject    = "org.freedesktop.DBus.Error.UnknownObject"
	errUnknownInterface = "org.freedesktop.DBus.Error.UnknownInterface"
	errUnknownMethod    = "org.freedesktop.DBus.Error.UnknownMethod"
	errUnknownProperty  = "org.freedesktop.DBus.Error.UnknownProperty"
	errPropertyReadOnly = "org.freedesktop.DBus.Error.PropertyReadOnly"
	errInvalidArgs      = "org.freedesktop.DBus.Error.InvalidArgs"
	errAccessDenied     = "org.freedesktop.DBus.Error.AccessDenied"
)

// Child is the path of the object that stands for id in a collection under
// root: root/collection/id, id escaped as sd-bus does (_XX for every byte
// that is not alphanumeric, and for a leading digit).
func Child(root dbus.ObjectPath, collection, id string) dbus.ObjectPath {
	return root + dbus.ObjectPath("/"+collection+"/"+Escape(id))
}

// Escape turns any string into one element of an object path.
func Escape(s string) string {
	const hex = "0123456789abcdef"
	if s == "" {
		return "_"
	}
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if letter || i > 0 && c >= '0' && c <= '9' {
			out = append(out, c)
		} else {
			out = append(out, '_', hex[c>>4], hex[c&15])
		}
	}
	return string(out)
}

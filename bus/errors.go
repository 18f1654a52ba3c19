package bus

import (
	"errors"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
)

// ToError turns err into a D-Bus error: org.aegisvm.Error.<Code> with the
// message as its body. A D-Bus error stays as it is; nil gives nil.
func ToError(err error) *dbus.Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*dbus.Error](err); ok {
		return e
	}
	e := api.AsError(err)
	return dbus.NewError(ErrorPrefix+string(e.Code), []any{text(e.Message)})
}

// text makes of s what a string on the bus can be. An error that cannot be
// sent would leave its caller waiting.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
}

// FromError turns an error of godbus into an *api.Error: ours back to what
// they were, those of the specification to the nearest code, and a lost
// connection to Unavailable.
func FromError(err error) error {
	if err == nil {
		return nil
	}
	var name string
	var de dbus.Error
	if e, ok := errors.AsType[*dbus.Error](err); ok {
		de = *e
	} else if !errors.As(err, &de) {
		return api.Errorf(api.Unavailable, "message bus: %w", err)
	}
	name = de.Name
	if code, ok := strings.CutPrefix(name, ErrorPrefix); ok {
		return &api.Error{Code: knownCode(api.Code(code)), Message: de.Error()}
	}
	if code := standardCode(name); code != api.Denied || !strings.HasPrefix(de.Error(), rejected) {
		return api.Errorf(code, "%w", de)
	}
	return api.Errorf(api.Denied, "the message bus keeps this user from the service: become root or a member of its group (aegis, for aegisd) and log in again")
}

// rejected is how a bus daemon begins to say that its policy stopped a
// message; what follows is for who wrote the policy.
const rejected = "Rejected send message"

func knownCode(c api.Code) api.Code {
	switch c {
	case api.NotFound, api.Exists, api.BadState, api.InvalidArgument, api.Unavailable, api.LimitExceeded, api.Denied:
		return c
	}
	return api.Internal
}

func standardCode(name string) api.Code {
	short, _ := strings.CutPrefix(name, "org.freedesktop.DBus.Error.")
	switch short {
	case "UnknownObject", "UnknownInterface", "UnknownMethod", "UnknownProperty":
		return api.NotFound
	case "InvalidArgs", "PropertyReadOnly", "InvalidSignature":
		return api.InvalidArgument
	case "AccessDenied", "AuthFailed", "InteractiveAuthorizationRequired":
		return api.Denied
	case "ServiceUnknown", "NameHasNoOwner", "NoReply", "Timeout", "TimedOut", "Disconnected", "NoServer":
		return api.Unavailable
	case "LimitsExceeded", "NoMemory":
		return api.LimitExceeded
	}
	if strings.Contains(short, "Spawn.") {
		return api.Unavailable
	}
	return api.Internal
}

func protocolError(name, message string) *dbus.Error {
	return dbus.NewError(name, []any{message})
}

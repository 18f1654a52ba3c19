package bus

import (
	"fmt"
	"os"
	"reflect"

	"github.com/godbus/dbus/v5"
)

// File makes a file of a received descriptor, which it then owns.
func File(fd dbus.UnixFD, name string) *os.File {
	return os.NewFile(uintptr(fd), name)
}

// FD tells the descriptor of a file without changing its mode. The file must
// stay open until the message is sent.
func FD(f *os.File) (dbus.UnixFD, error) {
	if f == nil {
		return -1, fmt.Errorf("sending a file: %w", os.ErrInvalid)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("sending file %s: %w", f.Name(), err)
	}
	fd := dbus.UnixFD(-1)
	if err := raw.Control(func(n uintptr) { fd = dbus.UnixFD(n) }); err != nil {
		return -1, fmt.Errorf("sending file %s: %w", f.Name(), err)
	}
	return fd, nil
}

// descriptors finds every descriptor in a message body, however deep.
func descriptors(body []any) []dbus.UnixFD {
	var fds []dbus.UnixFD
	for _, v := range body {
		fds = appendDescriptors(fds, reflect.ValueOf(v))
	}
	return fds
}

func appendDescriptors(fds []dbus.UnixFD, v reflect.Value) []dbus.UnixFD {
	if !v.IsValid() {
		return fds
	}
	switch x := v.Interface().(type) {
	case dbus.UnixFD:
		return append(fds, x)
	case dbus.Variant:
		return appendDescriptors(fds, reflect.ValueOf(x.Value()))
	}
	switch v.Kind() {
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return fds
		}
		for i := range v.Len() {
			fds = appendDescriptors(fds, v.Index(i))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			fds = appendDescriptors(fds, v.MapIndex(k))
		}
	}
	return fds
}

func closeAll(body []any) {
	for _, fd := range descriptors(body) {
		File(fd, "unwanted").Close()
	}
}

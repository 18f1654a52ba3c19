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
	leaves(reflect.ValueOf(body), func(v any) {
		if fd, ok := v.(dbus.UnixFD); ok {
			fds = append(fds, fd)
		}
	})
	return fds
}

// leaves calls f for every value of a message body that is no container.
func leaves(v reflect.Value, f func(any)) {
	if v.IsValid() && v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() {
		return
	}
	if variant, ok := v.Interface().(dbus.Variant); ok {
		leaves(reflect.ValueOf(variant.Value()), f)
		return
	}
	switch v.Kind() {
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		for i := range v.Len() {
			leaves(v.Index(i), f)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			leaves(v.MapIndex(k), f)
		}
	default:
		f(v.Interface())
	}
}

func closeAll(body []any) {
	for _, fd := range descriptors(body) {
		File(fd, "unwanted").Close()
	}
}

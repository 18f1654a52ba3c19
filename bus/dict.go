package bus

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// Dict is a structure on the bus, a{sv}.
type Dict = map[string]dbus.Variant

// ToDict turns a structure into a Dict with the structure's JSON names and
// value forms, so that REST and D-Bus tell the same. Whole numbers travel as
// x, lists of strings as as, of objects as aa{sv}; nulls are left out.
func ToDict(v any) (Dict, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", v, err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var plain map[string]any
	if err := dec.Decode(&plain); err != nil {
		return nil, fmt.Errorf("encoding %T: an object expected: %w", v, err)
	}
	return object(plain), nil
}

// ToDicts is ToDict of a list, or the error with which that came. The list is
// not nil, which has no type on the bus.
func ToDicts[T any](all []T, err error) ([]Dict, error) {
	if err != nil {
		return nil, err
	}
	list := make([]Dict, len(all))
	for i, v := range all {
		if list[i], err = ToDict(v); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// FromDicts reads a list, each part of it with read.
func FromDicts[T any](list []Dict, read func(Dict) (T, error)) ([]T, error) {
	all := make([]T, len(list))
	for i, d := range list {
		var err error
		if all[i], err = read(d); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// FromDict reads a Dict into a structure and ignores what that lacks: for
// answers, which a newer peer may have extended.
func FromDict(d Dict, v any) error { return fromDict(d, v, false) }

// FromDictStrict is FromDict for requests: an unknown name is an error.
func FromDictStrict(d Dict, v any) error { return fromDict(d, v, true) }

func fromDict(d Dict, v any, strict bool) error {
	raw, err := json.Marshal(plain(d))
	if err != nil {
		return fmt.Errorf("decoding %T: %w", v, err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if strict {
		dec.DisallowUnknownFields()
	}
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("decoding %T: %w", v, err)
	}
	return nil
}

func object(m map[string]any) Dict {
	d := make(Dict, len(m))
	for k, v := range m {
		if v != nil {
			d[k] = dbus.MakeVariant(value(v))
		}
	}
	return d
}

func value(v any) any {
	switch x := v.(type) {
	case map[string]any:
		return object(x)
	case json.Number:
		if n, err := x.Int64(); err == nil {
			return n
		}
		f, _ := x.Float64()
		return f
	case []any:
		return list(x)
	default:
		return v // string or bool
	}
}

func list(in []any) any {
	if l, ok := each(in, func(v any) (string, bool) { s, ok := v.(string); return s, ok }); ok {
		return l
	}
	if l, ok := each(in, func(v any) (Dict, bool) { m, ok := v.(map[string]any); return object(m), ok }); ok {
		return l
	}
	out := make([]dbus.Variant, 0, len(in))
	for _, v := range in {
		if v != nil {
			out = append(out, dbus.MakeVariant(value(v)))
		}
	}
	return out
}

func each[T any](in []any, as func(any) (T, bool)) ([]T, bool) {
	out := make([]T, len(in))
	for i, v := range in {
		t, ok := as(v)
		if !ok {
			return nil, false
		}
		out[i] = t
	}
	return out, true
}

// plain undoes object: what json.Marshal writes as the original.
func plain(v any) any {
	switch x := v.(type) {
	case dbus.Variant:
		return plain(x.Value())
	case Dict:
		m := make(map[string]any, len(x))
		for k, e := range x {
			m[k] = plain(e)
		}
		return m
	case []Dict:
		l := make([]any, len(x))
		for i, e := range x {
			l[i] = plain(e)
		}
		return l
	case []dbus.Variant:
		l := make([]any, len(x))
		for i, e := range x {
			l[i] = plain(e)
		}
		return l
	default:
		return v
	}
}

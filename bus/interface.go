package bus

import (
	"context"
	"embed"
	"encoding/xml"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5/introspect"
)

// Methods are the handlers of an interface by member name. A handler is a
//
//	func(ctx context.Context, r *Request, in ...) (out ..., error)
type Methods map[string]any

// Properties are values of properties by name.
type Properties map[string]any

// Interface is one interface of an exported object.
type Interface struct {
	// Name finds the interface in xml/.
	Name string
	// Allow decides for each sender, nil for all whom the bus policy lets
	// through. Its error is what the sender gets.
	Allow Authorizer
	// Methods has a handler for every method of the XML and no other.
	Methods Methods
	// Properties has a first value for every property of the XML and no
	// other. Object.Set changes them.
	Properties Properties
	// Write has a setter for every property with write access; it returns
	// the value to keep.
	Write map[string]func(ctx context.Context, r *Request, value any) (any, error)
}

// xmlFiles hold our interfaces, one file per service.
//
//go:embed xml/*.xml
var xmlFiles embed.FS

// definitions parses the embedded files once.
var definitions = sync.OnceValues(func() (map[string]introspect.Interface, error) {
	entries, err := xmlFiles.ReadDir("xml")
	if err != nil {
		return nil, err
	}
	all := make(map[string]introspect.Interface)
	for _, e := range entries {
		raw, err := xmlFiles.ReadFile("xml/" + e.Name())
		if err != nil {
			return nil, err
		}
		var node introspect.Node
		if err := xml.Unmarshal(raw, &node); err != nil {
			return nil, fmt.Errorf("parsing %s: %w", e.Name(), err)
		}
		for _, i := range node.Interfaces {
			all[i.Name] = i
		}
	}
	return all, nil
})

// Definition is the introspection data of one of our interfaces.
func Definition(name string) (introspect.Interface, error) {
	all, err := definitions()
	if err != nil {
		return introspect.Interface{}, err
	}
	def, ok := all[name]
	if !ok {
		return introspect.Interface{}, fmt.Errorf("interface %s is not described in bus/xml", name)
	}
	return def, nil
}

// Check compares the table with the XML: names, signatures, access. The error
// lists every difference.
func (i Interface) Check() error {
	def, err := Definition(i.Name)
	if err != nil {
		return err
	}
	diffs := append(i.checkMethods(def), i.checkProperties(def)...)
	if len(diffs) == 0 {
		return nil
	}
	sort.Strings(diffs)
	return fmt.Errorf("interface %s differs from its XML: %s", i.Name, strings.Join(diffs, "; "))
}

func (i Interface) checkMethods(def introspect.Interface) (diffs []string) {
	seen := make(map[string]bool)
	for _, m := range def.Methods {
		seen[m.Name] = true
		h, ok := i.Methods[m.Name]
		if !ok {
			diffs = append(diffs, fmt.Sprintf("method %s has no handler", m.Name))
			continue
		}
		in, out, err := handlerSignature(h)
		wantIn, wantOut := xmlSignature(m.Args)
		if err != nil {
			diffs = append(diffs, fmt.Sprintf("method %s: %v", m.Name, err))
		} else if in != wantIn || out != wantOut {
			diffs = append(diffs, fmt.Sprintf("method %s: code (%s)->(%s), xml (%s)->(%s)", m.Name, in, out, wantIn, wantOut))
		}
	}
	for name := range i.Methods {
		if !seen[name] {
			diffs = append(diffs, fmt.Sprintf("method %s is not in the XML", name))
		}
	}
	return diffs
}

func (i Interface) checkProperties(def introspect.Interface) (diffs []string) {
	seen := make(map[string]bool)
	for _, p := range def.Properties {
		seen[p.Name] = true
		v, ok := i.Properties[p.Name]
		if !ok {
			diffs = append(diffs, fmt.Sprintf("property %s has no value", p.Name))
			continue
		}
		sig, err := bodySignature([]reflect.Type{reflect.TypeOf(v)})
		if err != nil || sig != p.Type {
			diffs = append(diffs, fmt.Sprintf("property %s: code %s, xml %s", p.Name, sig, p.Type))
		}
		if _, ok := i.Write[p.Name]; ok != (p.Access == "readwrite") {
			diffs = append(diffs, fmt.Sprintf("property %s: access %s in the XML does not fit its setter", p.Name, p.Access))
		}
	}
	for name := range i.Properties {
		if !seen[name] {
			diffs = append(diffs, fmt.Sprintf("property %s is not in the XML", name))
		}
	}
	return diffs
}

func xmlSignature(args []introspect.Arg) (in, out string) {
	for _, a := range args {
		if a.Direction == "out" {
			out += a.Type
		} else {
			in += a.Type
		}
	}
	return in, out
}

// handlerSignature tells the D-Bus signatures of a handler's arguments and
// results.
func handlerSignature(h any) (in, out string, err error) {
	t := reflect.TypeOf(h)
	if t == nil || t.Kind() != reflect.Func || t.IsVariadic() || t.NumIn() < 2 || t.NumOut() < 1 ||
		t.In(0) != reflect.TypeFor[context.Context]() || t.In(1) != reflect.TypeFor[*Request]() ||
		t.Out(t.NumOut()-1) != reflect.TypeFor[error]() {
		return "", "", fmt.Errorf("handler is a %v, expected func(context.Context, *bus.Request, ...) (..., error)", t)
	}
	if in, err = bodySignature(slices.Collect(types(t.In, 2, t.NumIn()))); err != nil {
		return "", "", err
	}
	out, err = bodySignature(slices.Collect(types(t.Out, 0, t.NumOut()-1)))
	return in, out, err
}

func types(at func(int) reflect.Type, from, to int) func(yield func(reflect.Type) bool) {
	return func(yield func(reflect.Type) bool) {
		for i := from; i < to && yield(at(i)); i++ {
		}
	}
}

// emits tells how a property announces its changes: "true", "invalidates",
// "const" or "false", as its annotation or its interface's says.
func emits(def introspect.Interface, property string) string {
	const annotation = "org.freedesktop.DBus.Property.EmitsChangedSignal"
	mode := "true"
	for _, a := range def.Annotations {
		if a.Name == annotation {
			mode = a.Value
		}
	}
	for _, p := range def.Properties {
		for _, a := range p.Annotations {
			if p.Name == property && a.Name == annotation {
				mode = a.Value
			}
		}
	}
	return mode
}

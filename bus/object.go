package bus

import (
	"context"
	"fmt"
	"maps"
	"reflect"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"

	"github.com/xfeldman/aegisvm/api"
)

// Exported is an object of ours on the bus.
type Exported struct {
	server *server
	path   dbus.ObjectPath
	// interfaces in the order of Export; their Properties are guarded by
	// server.mu.
	interfaces []*Interface
}

// Export puts an object on the bus. It fails if a table differs from its XML
// or the path is taken. Under a managed root, InterfacesAdded is sent.
func (c *Conn) Export(path dbus.ObjectPath, interfaces ...Interface) (*Exported, error) {
	if !path.IsValid() {
		return nil, api.Errorf(api.InvalidArgument, "%q is not an object path", path)
	}
	obj := &Exported{server: c.server, path: path}
	for _, i := range interfaces {
		if err := i.Check(); err != nil {
			return nil, fmt.Errorf("exporting %s: %w", path, err)
		}
		i.Properties = maps.Clone(i.Properties)
		obj.interfaces = append(obj.interfaces, &i)
	}
	return obj, c.server.add(obj)
}

// Unexport takes the object off the bus. Under a managed root,
// InterfacesRemoved is sent.
func (o *Exported) Unexport() error { return o.server.remove(o) }

// Set changes properties and announces all changes in one PropertiesChanged;
// values that stay the same are not announced. A property that the interface
// does not have, or of another type, is an error and changes nothing.
func (o *Exported) Set(iface string, values Properties) error {
	o.server.emit.Lock()
	defer o.server.emit.Unlock()
	changed, invalid, err := o.apply(iface, values)
	if err != nil || len(changed)+len(invalid) == 0 {
		return err
	}
	return o.server.conn.raw.Emit(o.path, propertiesInterface+".PropertiesChanged", iface, changed, invalid)
}

func (o *Exported) apply(iface string, values Properties) (changed Dict, invalid []string, err error) {
	o.server.mu.Lock()
	defer o.server.mu.Unlock()
	i, err := o.find(iface, "")
	if err != nil {
		return nil, nil, err
	}
	def, err := Definition(iface)
	if err != nil {
		return nil, nil, err
	}
	for name, v := range values {
		if old, ok := i.Properties[name]; !ok || reflect.TypeOf(old) != reflect.TypeOf(v) {
			return nil, nil, fmt.Errorf("setting property %s.%s to a %T: there is no such property of that type", iface, name, v)
		}
	}
	changed, invalid = Dict{}, []string{}
	for name, v := range values {
		if reflect.DeepEqual(i.Properties[name], v) {
			continue
		}
		i.Properties[name] = v
		switch emits(def, name) {
		case "true":
			changed[name] = dbus.MakeVariant(v)
		case "invalidates":
			invalid = append(invalid, name)
		}
	}
	return changed, invalid, nil
}

// Emit sends a signal of one of the object's interfaces; a signal that the
// XML does not describe so is an error.
func (o *Exported) Emit(iface, signal string, args ...any) error {
	def, err := Definition(iface)
	if err != nil {
		return err
	}
	for _, s := range def.Signals {
		if s.Name != signal {
			continue
		}
		var types []reflect.Type
		for _, a := range args {
			types = append(types, reflect.TypeOf(a))
		}
		want, _ := xmlSignature(s.Args)
		if got, err := bodySignature(types); err != nil || got != want {
			return fmt.Errorf("emitting %s.%s with signature %q: %q expected", iface, signal, got, want)
		}
		o.server.emit.Lock()
		defer o.server.emit.Unlock()
		return o.server.conn.raw.Emit(o.path, iface+"."+signal, args...)
	}
	return fmt.Errorf("emitting %s.%s: the XML has no such signal", iface, signal)
}

// find finds an interface, or with an empty name the first one with the
// member, as the specification allows callers to leave the interface out.
func (o *Exported) find(iface, member string) (*Interface, error) {
	known := iface == ""
	for _, i := range o.interfaces {
		if iface != "" && i.Name != iface {
			continue
		}
		known = true
		if _, ok := i.Methods[member]; ok || member == "" {
			return i, nil
		}
	}
	if !known {
		return nil, protocolError(errUnknownInterface, fmt.Sprintf("object %s has no interface %s", o.path, iface))
	}
	return nil, protocolError(errUnknownMethod, fmt.Sprintf("object %s has no method %s.%s", o.path, iface, member))
}

func (i *Interface) allow(ctx context.Context, r *Request) error {
	if i.Allow == nil {
		return nil
	}
	return i.Allow(ctx, r)
}

// variants are the current values; the caller holds server.mu.
func (i *Interface) variants() Dict {
	d := make(Dict, len(i.Properties))
	for name, v := range i.Properties {
		d[name] = dbus.MakeVariant(v)
	}
	return d
}

func (o *Exported) introspection() (all []introspect.Interface, err error) {
	for _, i := range o.interfaces {
		def, err := Definition(i.Name)
		if err != nil {
			return nil, err
		}
		all = append(all, def)
	}
	return all, nil
}

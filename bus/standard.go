package bus

import (
	"context"
	"encoding/xml"
	"fmt"
	"reflect"
	"sort"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
)

// standard answers the interfaces that every object has. ok is false for all
// others. godbus itself answers Peer.
func (s *server) standard(ctx context.Context, r *Request, iface string, msg *dbus.Message) (out []any, ok bool, err error) {
	handlers, known := map[string]Methods{
		introspectInterface: {"Introspect": s.introspect},
		propertiesInterface: {"Get": s.get, "GetAll": s.getAll, "Set": s.set},
		objectsInterface:    {"GetManagedObjects": s.managedObjects},
	}[iface]
	if !known || iface == objectsInterface && !s.isManaged(r.Path) {
		return nil, false, nil
	}
	member := header[string](msg, dbus.FieldMember)
	h, known := handlers[member]
	if !known {
		return nil, true, protocolError(errUnknownMethod, fmt.Sprintf("interface %s has no method %s", iface, member))
	}
	out, err = call(ctx, r, h, msg)
	return out, true, err
}

func (s *server) isManaged(path dbus.ObjectPath) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.managed[path]
}

// property finds an interface for a Properties call and asks it whether the
// caller may.
func (s *server) property(ctx context.Context, r *Request, iface string) (*Interface, error) {
	s.mu.Lock()
	obj := s.objects[r.Path]
	s.mu.Unlock()
	if obj == nil {
		return nil, unknownObject(r.Path)
	}
	i, err := obj.find(iface, "")
	if err != nil {
		return nil, err
	}
	return i, i.allow(ctx, r)
}

func (s *server) get(ctx context.Context, r *Request, iface, name string) (dbus.Variant, error) {
	i, err := s.property(ctx, r, iface)
	if err != nil {
		return dbus.Variant{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := i.Properties[name]
	if !ok {
		return dbus.Variant{}, unknownProperty(iface, name)
	}
	return dbus.MakeVariant(v), nil
}

func unknownProperty(iface, name string) error {
	return protocolError(errUnknownProperty, fmt.Sprintf("interface %s has no property %s", iface, name))
}

func (s *server) getAll(ctx context.Context, r *Request, iface string) (Dict, error) {
	i, err := s.property(ctx, r, iface)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return i.variants(), nil
}

func (s *server) set(ctx context.Context, r *Request, iface, name string, v dbus.Variant) error {
	i, err := s.property(ctx, r, iface)
	if err != nil {
		return err
	}
	s.mu.Lock()
	old, ok := i.Properties[name]
	obj := s.objects[r.Path]
	s.mu.Unlock()
	write := i.Write[name]
	switch {
	case !ok:
		return unknownProperty(iface, name)
	case write == nil:
		return protocolError(errPropertyReadOnly, fmt.Sprintf("property %s.%s is read-only", iface, name))
	case reflect.TypeOf(old) != reflect.TypeOf(v.Value()):
		return protocolError(errInvalidArgs, fmt.Sprintf("property %s.%s has type %s, %s given",
			iface, name, dbus.SignatureOf(old), v.Signature()))
	}
	kept, err := write(ctx, r, v.Value())
	if err != nil {
		return err
	}
	return obj.Set(iface, Properties{name: kept})
}

// introspect describes an object: the XML of its interfaces and its children.
// Paths that only lead to objects are described, too.
func (s *server) introspect(_ context.Context, r *Request) (string, error) {
	s.mu.Lock()
	obj, children, managed := s.objects[r.Path], s.children(r.Path), s.managed[r.Path]
	s.mu.Unlock()
	if obj == nil && len(children) == 0 && !managed {
		return "", unknownObject(r.Path)
	}
	node := introspect.Node{Children: children}
	node.Interfaces = append(node.Interfaces, introspect.IntrospectData, introspect.PeerData)
	if managed {
		node.Interfaces = append(node.Interfaces, objectsData())
	}
	if obj != nil {
		own, err := obj.introspection()
		if err != nil {
			return "", err
		}
		node.Interfaces = append(append(node.Interfaces, propertiesData()), own...)
	}
	out, err := xml.MarshalIndent(node, "", "  ")
	return strings.TrimSpace(introspect.IntrospectDeclarationString) + "\n" + string(out) + "\n", err
}

// children are the next path elements below path; the caller holds mu.
func (s *server) children(path dbus.ObjectPath) []introspect.Node {
	names := make(map[string]bool)
	prefix := strings.TrimSuffix(string(path), "/") + "/"
	for p := range s.objects {
		if rest, ok := strings.CutPrefix(string(p), prefix); ok && rest != "" {
			name, _, _ := strings.Cut(rest, "/")
			names[name] = true
		}
	}
	nodes := make([]introspect.Node, 0, len(names))
	for n := range names {
		nodes = append(nodes, introspect.Node{Name: n})
	}
	sort.Slice(nodes, func(i, j int) bool { return nodes[i].Name < nodes[j].Name })
	return nodes
}

func propertiesData() introspect.Interface {
	in, out := "in", "out"
	return introspect.Interface{
		Name: propertiesInterface,
		Methods: []introspect.Method{
			{Name: "Get", Args: []introspect.Arg{{Name: "interface", Type: "s", Direction: in}, {Name: "property", Type: "s", Direction: in}, {Name: "value", Type: "v", Direction: out}}},
			{Name: "GetAll", Args: []introspect.Arg{{Name: "interface", Type: "s", Direction: in}, {Name: "properties", Type: "a{sv}", Direction: out}}},
			{Name: "Set", Args: []introspect.Arg{{Name: "interface", Type: "s", Direction: in}, {Name: "property", Type: "s", Direction: in}, {Name: "value", Type: "v", Direction: in}}},
		},
		Signals: []introspect.Signal{{Name: "PropertiesChanged", Args: []introspect.Arg{{Name: "interface", Type: "s"}, {Name: "changed", Type: "a{sv}"}, {Name: "invalidated", Type: "as"}}}},
	}
}

func objectsData() introspect.Interface {
	return introspect.Interface{
		Name:    objectsInterface,
		Methods: []introspect.Method{{Name: "GetManagedObjects", Args: []introspect.Arg{{Name: "objects", Type: "a{oa{sa{sv}}}", Direction: "out"}}}},
		Signals: []introspect.Signal{
			{Name: "InterfacesAdded", Args: []introspect.Arg{{Name: "object", Type: "o"}, {Name: "interfaces", Type: "a{sa{sv}}"}}},
			{Name: "InterfacesRemoved", Args: []introspect.Arg{{Name: "object", Type: "o"}, {Name: "interfaces", Type: "as"}}},
		},
	}
}

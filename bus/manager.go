package bus

import (
	"context"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
)

// ManageObjects gives root an org.freedesktop.DBus.ObjectManager over all
// objects below it, from now on. An interface whose Allow denies a caller is
// left out of what that caller gets.
func (c *Conn) ManageObjects(root dbus.ObjectPath) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.server.managed[root] = true
}

// add and remove keep the order of InterfacesAdded, PropertiesChanged and
// InterfacesRemoved by holding emit.
func (s *server) add(o *Exported) error {
	s.emit.Lock()
	defer s.emit.Unlock()
	s.mu.Lock()
	if s.objects[o.path] != nil {
		s.mu.Unlock()
		return api.Errorf(api.Exists, "object %s is exported already", o.path)
	}
	s.objects[o.path] = o
	root, added := s.rootOf(o.path), make(map[string]Dict)
	for _, i := range o.interfaces {
		added[i.Name] = i.variants()
	}
	s.mu.Unlock()
	if root == "" {
		return nil
	}
	return s.conn.raw.Emit(root, objectsInterface+".InterfacesAdded", o.path, added)
}

func (s *server) remove(o *Exported) error {
	s.emit.Lock()
	defer s.emit.Unlock()
	s.mu.Lock()
	if s.objects[o.path] != o {
		s.mu.Unlock()
		return nil
	}
	delete(s.objects, o.path)
	root, names := s.rootOf(o.path), []string{}
	for _, i := range o.interfaces {
		names = append(names, i.Name)
	}
	s.mu.Unlock()
	if root == "" {
		return nil
	}
	return s.conn.raw.Emit(root, objectsInterface+".InterfacesRemoved", o.path, names)
}

// rootOf is the managed root above path, "" if there is none.
func (s *server) rootOf(path dbus.ObjectPath) dbus.ObjectPath {
	for root := range s.managed {
		if below(root, path) {
			return root
		}
	}
	return ""
}

func below(root, path dbus.ObjectPath) bool {
	if root == "/" {
		return path != "/"
	}
	return strings.HasPrefix(string(path), string(root)+"/")
}

func (s *server) managedObjects(ctx context.Context, r *Request) (map[dbus.ObjectPath]map[string]Dict, error) {
	s.mu.Lock()
	var children []*Exported
	for path, o := range s.objects {
		if below(r.Path, path) {
			children = append(children, o)
		}
	}
	s.mu.Unlock()
	all := make(map[dbus.ObjectPath]map[string]Dict, len(children))
	for _, o := range children {
		visible := make(map[string]Dict)
		for _, i := range o.interfaces {
			if i.allow(ctx, r) != nil {
				continue
			}
			s.mu.Lock()
			visible[i.Name] = i.variants()
			s.mu.Unlock()
		}
		all[o.path] = visible
	}
	return all, nil
}

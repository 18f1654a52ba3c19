package bus

import "encoding/xml"

import "github.com/godbus/dbus/v5/introspect"

// AddDefinitions adds interfaces to those of xml/ for a test.
func AddDefinitions(raw string) error {
	all, err := definitions()
	if err != nil {
		return err
	}
	var node introspect.Node
	if err := xml.Unmarshal([]byte(raw), &node); err != nil {
		return err
	}
	for _, i := range node.Interfaces {
		all[i.Name] = i
	}
	return nil
}

// CloseServer ends the connection that an object is exported on.
func CloseServer(o *Exported) { o.server.conn.Close() }

// Package bus is the object layer that every daemon and client of ours uses
// to talk D-Bus. It stands on godbus and adds what that lacks: signals in
// order, a timeout on every call, standard error names, properties with one
// batched PropertiesChanged, ObjectManager, caller credentials, and file
// descriptors that cannot leak. It knows the names of our services and their
// interfaces (xml/*.xml, the source of truth) but nothing of what they do.
//
// A server describes an object by a table and exports it; Export refuses a
// table whose names or signatures differ from the XML. Handlers take a
// context, the Request, then the in-arguments; they return the out-arguments
// and an error, which becomes org.aegisvm.Error.<Code>:
//
//	conn, err := bus.Dial(ctx, "") // the system bus
//	defer conn.Close()
//	conn.ManageObjects(bus.VmmPath) // GetManagedObjects, InterfacesAdded, ...
//	root, err := conn.Export(bus.VmmPath, bus.Interface{
//		Name:  bus.VmmManager,
//		Allow: bus.AllowUIDs(aegisd), // root always may
//		Methods: bus.Methods{
//			"Stop":    func(ctx context.Context, r *bus.Request, id string) error { ... },
//			"Connect": func(ctx context.Context, r *bus.Request, id string, port uint32) (dbus.UnixFD, error) {
//				f, err := manager.Connect(ctx, id, port)
//				return r.Send(f), err // closed once the reply is sent
//			},
//			"Start": func(ctx context.Context, r *bus.Request, spec bus.Dict, disk dbus.UnixFD) error {
//				f := r.File(disk) // ours until the handler returns, then closed
//			},
//		},
//		Properties: bus.Properties{"Version": "1.0"},
//	})
//	root.Set(bus.VmmManager, bus.Properties{"Machines": uint32(3)}) // one PropertiesChanged
//	root.Emit(bus.VmmManager, "MachineChanged", id)
//	err = conn.Claim(ctx, bus.VmmName) // last, then bus.NotifyReady()
//
// A client calls and subscribes:
//
//	vmm := conn.Object(bus.VmmName, bus.VmmPath, bus.VmmManager)
//	var f *os.File // or string, bus.Dict, []bus.Dict, ...
//	err = vmm.Call(ctx, "Connect", bus.Args{id, uint32(1024)}, &f) // *os.File may be an argument, too
//	sub, err := vmm.Subscribe(ctx, "MachineChanged")
//	for sig := range sub.C { ... } // ends with ctx or the connection
//
// Structures travel as a{sv} with their JSON names: see ToDict and FromDict.
package bus

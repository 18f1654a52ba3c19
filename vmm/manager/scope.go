package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// Names of systemd on the bus, and of our units.
const (
	systemdName  = "org.freedesktop.systemd1"
	systemdPath  = dbus.ObjectPath("/org/freedesktop/systemd1")
	systemdIface = "org.freedesktop.systemd1.Manager"
	scopeIface   = "org.freedesktop.systemd1.Scope"
	scopePrefix  = "aegis-vm-"
	slice        = "aegis.slice"
	service      = "aegis-vmmd.service"
)

// stopUSec is how long systemd waits for a scope that it stops: more than a
// worker takes to shut its guest down.
const stopUSec = 30_000_000

// stopSignal is what systemd sends a scope that it stops itself, SIGWINCH:
// workers take it for SIGTERM, while their monitors, which would leave at
// once on that, ignore it.
const stopSignal = 28

// Scopes launches workers in transient scopes of systemd, which keep them
// apart from our own service and give them a cgroup that is theirs to divide.
type Scopes struct {
	Children
	conn *bus.Conn
}

// NewScopes asks systemd over conn for a scope for each worker.
func NewScopes(conn *bus.Conn, binary string) *Scopes {
	s := &Scopes{conn: conn}
	s.Children = Children{Binary: binary, Register: s.register}
	return s
}

func (s *Scopes) systemd() bus.Object { return s.conn.Object(systemdName, systemdPath, systemdIface) }

func scopeName(id string) string { return scopePrefix + id + ".scope" }

// property is one of a unit's, (sv).
type property struct {
	Name  string
	Value dbus.Variant
}

// auxiliary is a further unit, of which there are none.
type auxiliary struct {
	Name       string
	Properties []property
}

// register makes the scope of a worker and waits until it is there.
func (s *Scopes) register(ctx context.Context, id string, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, bus.Timeout)
	defer cancel()
	if err := s.systemd().Call(ctx, "Subscribe", nil); err != nil && !strings.Contains(err.Error(), "lready") {
		return fmt.Errorf("subscribing to systemd: %w", err)
	}
	jobs, err := s.systemd().Subscribe(ctx, "JobRemoved")
	if err != nil {
		return err
	}
	processes, done, err := processProperty(pid)
	if err != nil {
		return err
	}
	defer done()
	err = s.begin(ctx, id, processes, jobs)
	if api.CodeOf(err) == api.Unavailable || err == nil || processes.Name == "PIDs" {
		return err
	}
	// systemd before 253 knows no PIDFDs.
	return s.begin(ctx, id, property{"PIDs", dbus.MakeVariant([]uint32{uint32(pid)})}, jobs)
}

func (s *Scopes) begin(ctx context.Context, id string, processes property, jobs *bus.Subscription) error {
	unit := scopeName(id)
	properties := []property{
		{"Description", dbus.MakeVariant("AegisVM machine " + id)},
		{"Slice", dbus.MakeVariant(slice)},
		{"After", dbus.MakeVariant([]string{service})},
		{"Delegate", dbus.MakeVariant(true)},
		{"Controller", dbus.MakeVariant(bus.VmmName)},
		{"CollectMode", dbus.MakeVariant("inactive-or-failed")},
		{"TimeoutStopUSec", dbus.MakeVariant(uint64(stopUSec))},
		{"KillSignal", dbus.MakeVariant(int32(stopSignal))},
		processes,
	}
	var job dbus.ObjectPath
	err := s.systemd().Call(ctx, "StartTransientUnit", bus.Args{unit, "fail", properties, []auxiliary{}}, &job)
	if err != nil {
		return fmt.Errorf("making %s: %w", unit, err)
	}
	return awaitJob(ctx, jobs, job, unit)
}

// awaitJob waits for the end of a job whose signals are subscribed to.
func awaitJob(ctx context.Context, jobs *bus.Subscription, job dbus.ObjectPath, unit string) error {
	for {
		select {
		case sig, ok := <-jobs.C:
			if !ok {
				return api.Errorf(api.Unavailable, "making %s: the connection to systemd is lost", unit)
			}
			if len(sig.Body) != 4 || sig.Body[1] != job {
				continue
			}
			if result := sig.Body[3]; result != "done" {
				return api.Errorf(api.Internal, "making %s: systemd says %v", unit, result)
			}
			return nil
		case <-ctx.Done():
			return api.Errorf(api.Unavailable, "making %s: %w", unit, ctx.Err())
		}
	}
}

// Discard kills the worker with its monitor, and what else is left in the
// machine's scope.
func (s *Scopes) Discard(ctx context.Context, id, dir string) error {
	if err := s.Children.Discard(ctx, id, dir); err != nil {
		return err
	}
	err := s.systemd().Call(ctx, "KillUnit", bus.Args{scopeName(id), "all", int32(9)})
	if err == nil || strings.Contains(err.Error(), "not loaded") || strings.Contains(err.Error(), "No main") {
		return nil
	}
	if e, ok := errors.AsType[dbus.Error](err); ok && strings.HasSuffix(e.Name, "NoSuchUnit") {
		return nil
	}
	return fmt.Errorf("killing %s: %w", scopeName(id), err)
}

// HandleStops shuts machines down in order when systemd asks for the end of
// their scopes: as their controller we are asked instead of them. At the end
// of the host they all come at once, and none waits for another's worker. It
// returns when ctx or the connection ends.
func (s *Scopes) HandleStops(ctx context.Context, m *Manager) error {
	sub, err := s.conn.Object(systemdName, "", scopeIface).Subscribe(ctx, "RequestStop")
	if err != nil {
		return err
	}
	var asked sync.WaitGroup
	defer asked.Wait()
	for sig := range sub.C {
		if id, ok := idOfScope(sig.Path); ok {
			asked.Go(func() { m.askToLeave(ctx, id) })
		}
	}
	return ctx.Err()
}

// askToLeave shuts a machine down for systemd, which kills the scope if the
// worker does not even hear of it.
func (m *Manager) askToLeave(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, m.config.Patience.Stop)
	defer cancel()
	if err := m.Shutdown(ctx, id); err != nil {
		m.config.Log.Warn("systemd wants a machine to end", "machine", id, "err", err)
	}
}

// idOfScope reads a machine's id from the object path of its unit.
func idOfScope(path dbus.ObjectPath) (string, bool) {
	unit, ok := strings.CutPrefix(string(path), string(systemdPath)+"/unit/")
	if !ok {
		return "", false
	}
	rest, ok := strings.CutPrefix(unit, bus.Escape(scopePrefix))
	if !ok {
		return "", false
	}
	rest, ok = strings.CutSuffix(rest, bus.Escape("x.scope")[1:])
	return strings.ReplaceAll(rest, "_2d", "-"), ok
}

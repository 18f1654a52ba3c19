// Package connect chooses how the CLI reaches aegisd, over D-Bus or over
// REST, and connects. It is the only place of the CLI that knows transports,
// and it starts nothing: package service does.
package connect

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// SystemSocket is where the system's aegisd listens for REST.
const SystemSocket = "/run/aegis/aegisd.sock"

// busTimeout is how long the message bus may take to say who is there.
const busTimeout = 5 * time.Second

// Target is one way to aegisd.
type Target struct {
	// Bus is the address of a message bus, "system" for the system bus;
	// empty for REST.
	Bus string
	// Socket is the path of the REST socket.
	Socket string
	// Home is the state of a standalone aegisd, empty where the target is
	// another one.
	Home string
}

// String is what AEGIS_ADDRESS would be for the target.
func (t Target) String() string {
	if t.Bus != "" {
		return "dbus:" + t.Bus
	}
	return "unix:" + t.Socket
}

// Standalone tells whether the target is an aegisd of the caller's own.
func (t Target) Standalone() bool { return t.Home != "" }

// Choose picks the target: what AEGIS_ADDRESS says; with AEGIS_HOME set, the
// standalone aegisd of that home; the system bus where org.aegisvm.Aegis1 is
// on it or can be started; else the standalone aegisd in ~/.aegis. Errors are
// api.InvalidArgument, or api.Unavailable for a bus that does not answer.
func Choose(ctx context.Context) (Target, error) {
	t, conn, err := choose(ctx)
	if conn != nil {
		conn.Close()
	}
	return t, err
}

// choose also returns the connection to the bus that it found aegisd on, if it
// had to look there.
func choose(ctx context.Context) (Target, *bus.Conn, error) {
	if address := os.Getenv("AEGIS_ADDRESS"); address != "" {
		t, err := parse(address)
		return t, nil, err
	}
	if os.Getenv("AEGIS_HOME") == "" {
		conn, err := onSystemBus(ctx)
		if err != nil {
			return Target{}, nil, err
		}
		if conn != nil {
			return Target{Bus: "system"}, conn, nil
		}
	}
	home, err := Home()
	if err != nil {
		return Target{}, nil, err
	}
	return Target{Socket: socketOf(home), Home: home}, nil, nil
}

// Home is the directory of a standalone aegisd: AEGIS_HOME, else ~/.aegis.
func Home() (string, error) {
	home := os.Getenv("AEGIS_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return "", api.Errorf(api.InvalidArgument, "no home directory is known: set HOME or AEGIS_HOME")
		}
		return filepath.Join(user, ".aegis"), nil
	}
	if !filepath.IsAbs(home) {
		return "", api.Errorf(api.InvalidArgument, "AEGIS_HOME %q: expected an absolute path", home)
	}
	return filepath.Clean(home), nil
}

func socketOf(home string) string { return filepath.Join(home, "aegisd.sock") }

func parse(address string) (Target, error) {
	if where, ok := strings.CutPrefix(address, "dbus:"); ok && where != "" {
		return Target{Bus: where}, nil
	}
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok || !filepath.IsAbs(path) {
		return Target{}, api.Errorf(api.InvalidArgument,
			"AEGIS_ADDRESS %q: expected dbus:system, dbus:ADDRESS or unix:/PATH", address)
	}
	t := Target{Socket: filepath.Clean(path)}
	if home, err := Home(); err == nil && t.Socket == socketOf(home) {
		t.Home = home
	}
	return t, nil
}

// onSystemBus connects to the system bus if aegisd is on it or can be started
// by it; nil where there is no bus or no such aegisd. A bus that is there and
// does not answer is an error: the aegisd of a home would be the wrong one.
func onSystemBus(ctx context.Context) (*bus.Conn, error) {
	ctx, cancel := context.WithCancel(ctx) // the connection ends with it
	patience := time.AfterFunc(busTimeout, cancel)
	conn, err := bus.Dial(ctx, "")
	if err != nil {
		defer cancel()
		return nil, silent(ctx, nil)
	}
	there, err := conn.HasOwner(ctx, bus.AegisName)
	if err == nil && there && patience.Stop() {
		return conn, nil
	}
	conn.Close()
	defer cancel()
	return nil, silent(ctx, err)
}

// silent is the error for a system bus that took too long, or err.
func silent(ctx context.Context, err error) error {
	if err == nil && ctx.Err() == nil {
		return nil
	}
	return api.Errorf(api.Unavailable, "the system bus does not say whether aegisd is there: try again, or name it with AEGIS_ADDRESS: %w",
		cmp.Or(err, context.Cause(ctx)))
}

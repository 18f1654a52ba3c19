package router

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/xfeldman/aegisvm/api"
)

// tableVersion is that of the file; a newer one is left alone.
const tableVersion = 1

// table is the file: what is to be open, whatever becomes of this process and
// of the host.
type table struct {
	Version int     `json:"version"`
	Ports   []entry `json:"ports"`
}

// entry is one port in the file.
type entry struct {
	Port
	ActualPort int  `json:"actual_port"`
	On         bool `json:"on"`
}

// key tells ports apart: UDP's are others than TCP's.
type key struct {
	instance string
	guest    int
	udp      bool
}

func (p Port) key() key { return key{p.Instance, p.GuestPort, p.Protocol == api.ProtocolUDP} }

// compare orders ports by instance, number and protocol.
func compare(a, b Port) int {
	return cmp.Or(cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.GuestPort, b.GuestPort), cmp.Compare(a.Protocol, b.Protocol))
}

var (
	instanceGrammar = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{0,63}$`)
	handleGrammar   = regexp.MustCompile(`^([a-zA-Z0-9][a-zA-Z0-9._-]{0,63})?$`)
)

// check refuses a port that cannot be.
func (p Port) check() error {
	_, err := netip.ParseAddr(p.Bind)
	switch {
	case !instanceGrammar.MatchString(p.Instance):
		return api.Errorf(api.InvalidArgument, "instance %.80q: expected the id of one", p.Instance)
	case !handleGrammar.MatchString(p.Handle):
		return api.Errorf(api.InvalidArgument, "handle %.80q: expected the name of an instance, or none", p.Handle)
	case err != nil:
		return api.Errorf(api.InvalidArgument, "address %.80q: expected an IP address of this host", p.Bind)
	case p.GuestPort < 1 || p.GuestPort > 65535 || p.PublicPort < 0 || p.PublicPort > 65535:
		return api.Errorf(api.InvalidArgument, "ports %d and %d: expected 1 to 65535, and 0 for any of the host's", p.GuestPort, p.PublicPort)
	case !p.Protocol.Known():
		return api.Errorf(api.InvalidArgument, "protocol %.80q: expected http, tcp or udp", p.Protocol)
	}
	return nil
}

// parseTable reads a file. What it returns is consistent.
func parseTable(b []byte) ([]entry, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var t table
	if err := d.Decode(&t); err != nil {
		return nil, fmt.Errorf("reading the table: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("reading the table: there is more behind it")
	}
	if t.Version != tableVersion {
		return nil, fmt.Errorf("the table is of version %d, this program's is %d", t.Version, tableVersion)
	}
	seen := map[key]bool{}
	for _, e := range t.Ports {
		if err := e.check(); err != nil {
			return nil, err
		}
		if seen[e.key()] || e.ActualPort < 1 || e.ActualPort > 65535 {
			return nil, fmt.Errorf("port %d of %s is there twice, or is none of the host's", e.GuestPort, e.Instance)
		}
		seen[e.key()] = true
	}
	return t.Ports, nil
}

// readTable reads the file at path. One that is damaged is put aside: aegisd
// knows what its instances expose and asks for it again.
func readTable(path string) (all []entry, damage error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		all, err = parseTable(b)
	}
	if err != nil {
		return nil, errors.Join(err, os.Rename(path, path+".damaged"))
	}
	return all, nil
}

// writeTable makes the file say what is given, or leaves it as it is.
func writeTable(path string, all []entry) error {
	slices.SortFunc(all, func(a, b entry) int { return compare(a.Port, b.Port) })
	b, err := json.MarshalIndent(table{tableVersion, all}, "", " ")
	if err != nil {
		return err
	}
	fresh := path + ".new"
	if err := writeSynced(fresh, b); err != nil {
		os.Remove(fresh)
		return fmt.Errorf("writing the table: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

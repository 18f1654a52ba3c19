package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/xfeldman/aegisvm/api"
)

// Config is the file registries.json.
type Config struct {
	// Insecure are registries, as HOST or HOST:PORT, that may be spoken to in
	// plain HTTP and with certificates that nobody vouches for.
	Insecure []string `json:"insecure,omitempty"`
	// Mirrors are asked, in order, before the registry that is their key. A
	// mirror is HOST[:PORT][/PATH].
	Mirrors map[string][]string `json:"mirrors,omitempty"`
}

const maxConfig = 1 << 20

// ReadConfig reads the file at path; without one, nothing is insecure and
// nothing has a mirror. Unknown names are refused.
func ReadConfig(path string) (c Config, err error) {
	f, err := os.Open(path)
	if path == "" || errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, api.Errorf(api.Unavailable, "registries: %w", err)
	}
	defer f.Close()
	d := json.NewDecoder(io.LimitReader(f, maxConfig))
	d.DisallowUnknownFields()
	err = d.Decode(&c)
	if _, end := d.Token(); err == nil && end != io.EOF {
		err = errors.New("more than one JSON value")
	}
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return c, api.Errorf(api.InvalidArgument, "%s: %w: expected {\"insecure\": [HOST], \"mirrors\": {HOST: [HOST]}}", path, err)
	}
	return c, nil
}

func (c Config) check() error {
	hosts := slices.Clone(c.Insecure)
	for host := range c.Mirrors {
		hosts = append(hosts, host)
	}
	for _, host := range hosts {
		if _, err := name.NewRegistry(host, name.StrictValidation); err != nil {
			return fmt.Errorf("%.200q is no registry", host)
		}
	}
	for _, mirrors := range c.Mirrors {
		for _, m := range mirrors {
			if _, err := name.NewRepository(m+"/x", name.StrictValidation); err != nil || !isPlace(m) {
				return fmt.Errorf("%.200q is no mirror", m)
			}
		}
	}
	return nil
}

// places are where to look for an image: the mirrors, then its registry.
func (c Config) places(n Name) []string {
	return append(slices.Clone(c.Mirrors[n.Registry()]), n.Registry())
}

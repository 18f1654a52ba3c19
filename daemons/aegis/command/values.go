package command

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
)

// memory is a flag in MiB, given as a number or as 512M or 1G.
type memory int

func (m *memory) String() string { return strconv.Itoa(int(*m)) }
func (m *memory) Type() string   { return "MiB" }

func (m *memory) Set(s string) error {
	digits, unit := s, 1
	trimmed := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(s), "ib"), "b")
	if d, ok := strings.CutSuffix(trimmed, "m"); ok {
		digits = d
	} else if d, ok := strings.CutSuffix(trimmed, "g"); ok {
		digits, unit = d, 1024
	} else if d, ok := strings.CutSuffix(trimmed, "t"); ok {
		digits, unit = d, 1024*1024
	}
	n, err := whole(digits)
	if err != nil {
		return errors.New("expected MiB as a number, or a size such as 512M or 1G")
	}
	*m = memory(n * unit)
	return nil
}

// processors is a flag with a number of virtual processors.
type processors int

func (p *processors) String() string { return strconv.Itoa(int(*p)) }
func (p *processors) Type() string   { return "int" }

func (p *processors) Set(s string) error {
	n, err := whole(s)
	if err != nil {
		return errors.New("expected a whole number")
	}
	*p = processors(n)
	return nil
}

// whole reads a number. One that is absurd is no error of writing: it becomes
// the largest that can be asked for, and is refused by who knows the limit.
func whole(digits string) (int, error) {
	const most = math.MaxInt32
	n, err := strconv.Atoi(digits)
	if errors.Is(err, strconv.ErrRange) {
		err = nil // n is the nearest that there is
	}
	return min(max(n, -most), most), err
}

// environment is a flag NAME=VALUE that may be repeated; the last one wins.
type environment map[string]string

func (e environment) String() string { return "" }
func (e environment) Type() string   { return "NAME=VALUE" }

func (e environment) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return errors.New("expected NAME=VALUE; write NAME= for an empty value")
	}
	e[name] = value
	return nil
}

// format is the flag -o.
type format string

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "text|json" }

func (f *format) Set(s string) error {
	if s != "text" && s != "json" {
		return errors.New("expected text or json")
	}
	*f = format(s)
	return nil
}

// imageRef makes the path in an image reference absolute, because aegisd has
// another working directory. Digests and absolute paths stay as they are.
func imageRef(ref string) (string, error) {
	path, oci := strings.CutPrefix(ref, "oci:")
	if !oci && !strings.HasPrefix(ref, ".") || path == "" || filepath.IsAbs(path) {
		return ref, nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("image %q: %w", ref, err)
	}
	return ref[:len(ref)-len(path)] + abs, nil
}

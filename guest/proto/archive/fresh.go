package archive

import (
	"errors"
	"io/fs"
	"os"
)

// fresh is a regular file that is being made. It gets its name when it is
// whole, so that a killed copy leaves what was there, or nothing.
type fresh struct {
	*os.File
	in *level
	// temp is its name until then, where a file needs one.
	temp string
}

// fresh makes one in a folder: without a name where the file system has such,
// else under a name that nobody uses.
func (u *unpacker) fresh(in *level) (*fresh, error) {
	if !u.named {
		f, err := in.openNameless()
		if err == nil {
			return &fresh{File: f, in: in}, nil
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			return nil, err
		}
		u.named = true
	}
	temp := temporary()
	f, err := in.root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &fresh{File: f, in: in, temp: temp}, nil
}

// place gives the file its name.
func (f *fresh) place(name string) error {
	there, err := replaceable(f.in.root, name)
	if err != nil {
		return err
	}
	if f.temp == "" && !there {
		if err := f.link(name); !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if f.temp == "" { // no link takes the place of another
		temp := temporary()
		if err := f.link(temp); err != nil {
			return err
		}
		f.temp = temp
	}
	if err := f.in.root.Rename(f.temp, name); err != nil {
		return err
	}
	f.temp = ""
	return nil
}

// close gives up what has no name yet.
func (f *fresh) close() error {
	if f.temp != "" {
		f.in.root.Remove(f.temp)
	}
	return f.Close()
}

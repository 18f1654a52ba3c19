package vmm

import "errors"

// ErrEnded is wrapped by every call to a machine that has ended.
var ErrEnded = errors.New("machine has ended")

// ErrUnsupported is wrapped where a driver cannot do a thing at all.
var ErrUnsupported = errors.New("not supported by this driver")

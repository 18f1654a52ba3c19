package bus

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
)

// Users are the numbers of a user by name or number, for AllowUIDs. A host
// that lacks the user has none.
func Users(name string) ([]uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return []uint32{uint32(n)}, nil
	}
	u, err := user.Lookup(name)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking up user %q: %w", name, err)
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %q has the number %q: %w", name, u.Uid, err)
	}
	return []uint32{uint32(n)}, nil
}

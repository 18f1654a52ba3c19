package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

// broken says what is wrong with an image.
func broken(format string, args ...any) error {
	return api.Errorf(api.InvalidArgument, format, args...)
}

// beyond says which limit an image exceeds.
func beyond(format string, args ...any) error {
	return api.Errorf(api.LimitExceeded, format, args...)
}

// unreadable makes what a decoder says of a layer a statement about the
// image, unless the error has another cause: a limit, a full disk, the end of
// the context.
func unreadable(what string, err error) error {
	var e *api.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e), full(err), ended(err):
		return fmt.Errorf("%s: %w", what, err)
	default:
		return broken("%s is damaged: %w", what, err)
	}
}

func full(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

func ended(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// failure makes err an *api.Error at the boundary. The end of a context
// passes as it is.
func failure(err error) error {
	switch {
	case err == nil:
		return nil
	case ended(err):
		return err
	case full(err):
		return api.Errorf(api.LimitExceeded, "%w: free some space and try again", err)
	case api.CodeOf(err) != api.Internal:
		return api.AsError(err)
	case errors.Is(err, fs.ErrNotExist):
		return api.Errorf(api.NotFound, "%w", err)
	case errors.Is(err, fs.ErrPermission):
		return api.Errorf(api.Denied, "%w", err)
	default:
		return api.AsError(err)
	}
}

package api

import (
	"errors"
	"fmt"
)

// Code says what kind of refusal an Error is. It is the last element of the
// D-Bus error name org.aegisvm.Error.<Code> and maps one to one onto REST
// status codes and CLI exit codes.
type Code string

// The codes.
const (
	NotFound        Code = "NotFound"        // 404
	Exists          Code = "Exists"          // 409
	BadState        Code = "BadState"        // 409
	InvalidArgument Code = "InvalidArgument" // 400
	Unavailable     Code = "Unavailable"     // 503
	LimitExceeded   Code = "LimitExceeded"   // 429
	Denied          Code = "Denied"          // 403
	Internal        Code = "Internal"        // 500
)

// Error is the one error type that crosses library, bus, REST and CLI. Its
// message is one line that names what was wrong, what was expected and what
// to do next.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"error"`
	cause   error
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns what caused the error on this side of a transport.
func (e *Error) Unwrap() error { return e.cause }

// Errorf makes an Error; %w keeps the chain.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), cause: errors.Unwrap(err)}
}

// CodeOf tells the code of err: that of the first *Error in its chain,
// Internal for every other error, "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}

// AsError turns any error into an *Error with the message of the whole chain
// and the code of the first *Error in it.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	return &Error{Code: CodeOf(err), Message: err.Error(), cause: err}
}

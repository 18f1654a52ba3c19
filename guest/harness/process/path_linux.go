package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// Codes of a program that cannot be started, as in a shell.
const (
	codeNotExecutable = 126
	codeNotFound      = 127
)

// refusal is the status of a program that could not be started.
func refusal(code int, name, why string) *proto.ProcessStatus {
	return &proto.ProcessStatus{Code: code, Message: fmt.Sprintf("%s: %s", name, why)}
}

// refused is the refusal for an error of stat or exec; missing says what is
// not there if something is not.
func refused(name string, err error, missing string) *proto.ProcessStatus {
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
		return refusal(codeNotFound, name, missing)
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	return refusal(codeNotExecutable, name, err.Error())
}

// find looks a program up: in the PATH of env where its name has no slash,
// relative to cwd. It returns the path to execute, or why there is none.
func find(name, cwd string, env []string) (string, *proto.ProcessStatus) {
	if strings.Contains(name, "/") {
		return name, executable(name, resolve(cwd, name))
	}
	missing := refusal(codeNotFound, name, "not found")
	if name == "" {
		return "", refusal(codeNotFound, `""`, "not found")
	}
	for dir := range strings.SplitSeq(getenv(env, "PATH"), ":") {
		path := filepath.Join(resolve(cwd, dir), name)
		why := executable(name, path)
		if why == nil {
			return path, nil
		}
		if why.Code != codeNotFound {
			missing = why
		}
	}
	return "", missing
}

// executable tells why path cannot be executed, nil if it can, by what its
// mode says: whether this user may, exec itself will tell.
func executable(name, path string) *proto.ProcessStatus {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return refused(name, err, "not found")
	case info.IsDir():
		return refusal(codeNotExecutable, name, "is a directory")
	case info.Mode()&0o111 == 0:
		return refusal(codeNotExecutable, name, "permission denied")
	}
	return nil
}

func resolve(cwd, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(cwd, path)
}

// getenv returns the last value of a variable: a caller that overrides one
// appends.
func getenv(env []string, name string) string {
	value := ""
	for _, e := range env {
		if k, v, ok := strings.Cut(e, "="); ok && k == name {
			value = v
		}
	}
	return value
}

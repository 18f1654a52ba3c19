package apitest

import (
	"os"
	"strings"
	"syscall"

	"github.com/xfeldman/aegisvm/api"
)

// refusals gives specs that cannot work, each with the code and a word of the
// message.
func (s suite) refusals() {
	sleep := []string{"sleep"}
	s.create(api.InstanceSpec{Command: sleep, Handle: "taken"})
	for name, c := range map[string]struct {
		spec api.InstanceSpec
		code api.Code
		word string
	}{
		"no command":          {api.InstanceSpec{}, api.InvalidArgument, "command"},
		"empty program":       {api.InstanceSpec{Command: []string{""}}, api.InvalidArgument, "command"},
		"NUL in an argument":  {api.InstanceSpec{Command: []string{"a", "b\x00c"}}, api.InvalidArgument, "NUL"},
		"huge argument":       {api.InstanceSpec{Command: []string{"a", strings.Repeat("x", 200_000)}}, api.InvalidArgument, "bytes"},
		"huge command":        {api.InstanceSpec{Command: strings.Fields(strings.Repeat("x ", 600_000))}, api.InvalidArgument, "bytes"},
		"little memory":       {api.InstanceSpec{Command: sleep, MemoryMB: 127}, api.InvalidArgument, "128"},
		"negative memory":     {api.InstanceSpec{Command: sleep, MemoryMB: -1}, api.InvalidArgument, "128"},
		"little disk":         {api.InstanceSpec{Command: sleep, DiskMB: 255}, api.InvalidArgument, "256"},
		"absurd disk":         {api.InstanceSpec{Command: sleep, DiskMB: 1<<20 + 1}, api.LimitExceeded, "1 TiB"},
		"absurd memory":       {api.InstanceSpec{Command: sleep, MemoryMB: 99999999}, api.LimitExceeded, "memory"},
		"negative cpus":       {api.InstanceSpec{Command: sleep, VCPUs: -1}, api.InvalidArgument, "cpus"},
		"absurd cpus":         {api.InstanceSpec{Command: sleep, VCPUs: 500}, api.LimitExceeded, "cpus"},
		"a bad handle":        {api.InstanceSpec{Command: sleep, Handle: "-a"}, api.InvalidArgument, "handle"},
		"a handle with /":     {api.InstanceSpec{Command: sleep, Handle: "a/b"}, api.InvalidArgument, "handle"},
		"a long handle":       {api.InstanceSpec{Command: sleep, Handle: strings.Repeat("a", 64)}, api.InvalidArgument, "64"},
		"a handle like an id": {api.InstanceSpec{Command: sleep, Handle: "inst-1"}, api.InvalidArgument, "prefix"},
		"a taken handle":      {api.InstanceSpec{Command: sleep, Handle: "taken"}, api.Exists, "taken"},
		"an env name with =":  {api.InstanceSpec{Command: sleep, Env: map[string]string{"A=B": "c"}}, api.InvalidArgument, "env"},
		"an empty env name":   {api.InstanceSpec{Command: sleep, Env: map[string]string{"": "c"}}, api.InvalidArgument, "env"},
		"NUL in env":          {api.InstanceSpec{Command: sleep, Env: map[string]string{"A": "\x00"}}, api.InvalidArgument, "NUL"},
		"a relative workdir":  {api.InstanceSpec{Command: sleep, Workdir: "tmp"}, api.InvalidArgument, "workdir"},
		"a strange user":      {api.InstanceSpec{Command: sleep, User: "a\nb"}, api.InvalidArgument, "user"},
		"a negative timeout":  {api.InstanceSpec{Command: sleep, TimeoutMS: -1}, api.InvalidArgument, "timeout"},
		"stdin unattached":    {api.InstanceSpec{Command: sleep, Stdin: true}, api.InvalidArgument, "attach"},
	} {
		_, err := s.Create(s.Context(), api.Caller{}, c.spec)
		s.wantCode(name, err, c.code)
		if err != nil && (!strings.Contains(err.Error(), c.word) || len(err.Error()) > 300) {
			s.Errorf("%s: message %q does not speak of %q", name, err, c.word)
		}
	}
	if all, err := s.List(s.Context()); err != nil || len(all) != 1 {
		s.Errorf("after refusals there are %d instances, %v", len(all), err)
	}
}

// CloseWrite half-closes a stream, as the end of input does.
func CloseWrite(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var shut error
	if err := raw.Control(func(fd uintptr) { shut = syscall.Shutdown(int(fd), syscall.SHUT_WR) }); err != nil {
		return err
	}
	return shut
}

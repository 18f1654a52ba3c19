package api

import (
	"context"
	"time"
)

// Terminal asks for a terminal instead of three streams.
type Terminal struct {
	// TTY makes a new terminal stdin, stdout and stderr of the program.
	TTY bool `json:"tty,omitempty"`
	// Rows and Cols are its first size, up to 65535; 0 means unknown.
	Rows int `json:"rows,omitempty"`
	Cols int `json:"cols,omitempty"`
	// Term becomes TERM where the environment has none, default xterm.
	Term string `json:"term,omitempty"`
}

// ExecSpec is one more program to run in an instance. Its JSON names are those
// of POST /v1/instances/{id}/exec.
type ExecSpec struct {
	// Command is the argv; required. The image's entrypoint is not put before
	// it.
	Command []string `json:"command"`
	// Env is added to the environment of the instance's own program, with the
	// secrets of now, and wins over it.
	Env map[string]string `json:"env,omitempty"`
	// Secrets and EnvSecrets are more secrets, as those of an InstanceSpec;
	// they win over all but Env.
	Secrets    []string          `json:"secrets,omitempty"`
	EnvSecrets map[string]string `json:"env_secrets,omitempty"`
	// Workdir and User; empty means the instance's, else the image's.
	Workdir string `json:"workdir,omitempty"`
	User    string `json:"user,omitempty"`
	Terminal
	// Stdin gives the program an open stdin, which a terminal always is.
	Stdin bool `json:"stdin,omitempty"`
	// Detach lets the program go on without a client. It is started without
	// streams; ReattachExec gives them, again and again. While nobody has them
	// the last 256 KiB of each output are kept. Without a terminal all of it is
	// in the instance's log as well. Its stdin ends with the first
	// client that has it, a terminal does not.
	Detach bool `json:"detach,omitempty"`
	// TimeoutMS ends the program after so many milliseconds (SIGTERM, SIGKILL
	// to all that it started 5 s later) with exit code 124; 0 means never.
	TimeoutMS int64 `json:"timeout_ms,omitempty"`
}

// PrimaryExec is the id of an instance's own program among its execs.
const PrimaryExec = "main"

// ExecInfo is what a client sees of a program in an instance: one that runs,
// or one that goes on without a client and has ended, while nobody has fetched
// its end.
type ExecInfo struct {
	ID string `json:"exec_id"`
	// Command is the argv, cut where it is long.
	Command   []string  `json:"command"`
	StartedAt time.Time `json:"started_at"`
	TTY       bool      `json:"tty,omitempty"`
	// Detached tells whether it goes on without a client, Attached whether it
	// has one.
	Detached bool `json:"detached,omitempty"`
	Attached bool `json:"attached,omitempty"`
	// ExitCode and ExitSignal are how it ended.
	ExitCode   *int `json:"exit_code,omitempty"`
	ExitSignal int  `json:"exit_signal,omitempty"`
}

// Executor is the part of Aegis that runs programs in instances that run, and
// connects clients with them. BadState says that the instance does not run,
// NotFound that it has no such program (any more).
type Executor interface {
	// Exec starts a program and hands out its id and, unless it is detached,
	// its streams. The program is hung up when its Status stream is closed
	// before it has ended: SIGHUP, after 5 s SIGKILL to all that it started, of
	// one with a terminal to what is left of its session. That holds also when
	// aegisd is away.
	Exec(ctx context.Context, ref string, spec ExecSpec) (id string, streams *Streams, err error)
	// ReattachExec hands out the streams of a detached program, or of the
	// primary one of an instance with Attach and without AutoRemove; one client
	// at a time.
	ReattachExec(ctx context.Context, ref, id string) (*Streams, error)
	// ResizeExec sets the size of a program's terminal.
	ResizeExec(ctx context.Context, ref, id string, rows, cols int) error
	// SignalExec sends a signal to a program's process group.
	SignalExec(ctx context.Context, ref, id string, signal int) error
	// Execs tells the programs of an instance in the order of their starts.
	Execs(ctx context.Context, ref string) ([]ExecInfo, error)
}

package api

import "time"

// InstanceSpec is what a client asks for when it creates an instance. The
// JSON names are those of POST /v1/instances; unknown ones are refused.
type InstanceSpec struct {
	// Handle is the instance's name: [a-zA-Z0-9][a-zA-Z0-9._-]*, at most 63
	// characters, unique. Empty for an instance that only has its id.
	Handle string `json:"handle,omitempty"`
	// Command is the argv of the primary process; required without a Kit. It
	// replaces the image's command and follows its entrypoint, if it has one.
	Command []string `json:"command"`
	// ImageRef names the image: empty for the base image, a name such as
	// debian:12, the path of an OCI layout (absolute, or oci:PATH[:TAG]), or
	// the digest of an image that is here.
	ImageRef string `json:"image_ref,omitempty"`
	// Pull says when the registry is asked for an image with a name; empty
	// means missing. It is for the first start: later ones use the same image.
	Pull PullPolicy `json:"pull,omitempty"`
	// Env is added to the image's environment and wins over it.
	Env map[string]string `json:"env,omitempty"`
	// Workdir and User of the primary process; empty means the image's.
	Workdir string `json:"workdir,omitempty"`
	User    string `json:"user,omitempty"`
	// MemoryMB is the guest's memory in MiB, default 512, at least 128, at
	// most what the host has. VCPUs defaults to 1, at most 8 and the host's.
	MemoryMB int `json:"memory_mb,omitempty"`
	VCPUs    int `json:"vcpus,omitempty"`
	// DiskMB is the size in MiB of the writable disk, which takes what is
	// written to it only: default 16384, at least 256, at most 1048576. It
	// stays as it is made.
	DiskMB int `json:"disk_mb,omitempty"`
	// TimeoutMS ends the primary process (SIGTERM, then the machine) after
	// so many milliseconds of running; 0 means never. The exit code is 124
	// then, as timeout(1) has it, from the moment the time is up.
	TimeoutMS int64 `json:"timeout_ms,omitempty"`
	// Attach connects the primary process to streams that Attach hands out;
	// its output waits for them. Without it, stdin is /dev/null and the output
	// goes to the instance's log.
	Attach bool `json:"attach,omitempty"`
	// Stdin gives an attached process an open stdin.
	Stdin bool `json:"stdin,omitempty"`
	// AutoRemove deletes the instance when its primary process has ended, or
	// when the attached client goes.
	AutoRemove bool `json:"auto_remove,omitempty"`
	// Secrets are names of secrets that the program gets as environment
	// variables of the same names; "*" means all there are. EnvSecrets are
	// variables with the secrets to fill them from. Values are looked up at
	// each start; they win over the image's variables, Env wins over them.
	Secrets    []string          `json:"secrets,omitempty"`
	EnvSecrets map[string]string `json:"env_secrets,omitempty"`
	// Hostname is the guest's name for itself; empty means the handle, else
	// the id.
	Hostname string `json:"hostname,omitempty"`
	// Labels are the client's own notes: at most 64, keys of [A-Za-z0-9._/-]
	// up to 128 characters, values of printable text up to 256 bytes.
	Labels map[string]string `json:"labels,omitempty"`
	// Restart is what starts the instance again; empty means never. It cannot
	// be combined with Attach or AutoRemove.
	Restart RestartPolicy `json:"restart,omitempty"`
	// Exposes are ports to offer on the host from the start on, Idle says when to
	// sleep. Kit is a preset, which may bring the command; it is checked and
	// kept, and a start that needs it is refused with Unavailable: this aegisd
	// cannot do it yet.
	Exposes []Expose   `json:"exposes,omitempty"`
	Kit     string     `json:"kit,omitempty"`
	Idle    IdlePolicy `json:"idle_policy,omitempty"`
	Terminal
	NetworkSpec
	// Workspace is the folder of the host that the guest has at /workspace: the
	// absolute path of one that is there, or a name, for one that aegisd keeps
	// and makes if need be. "auto" is one of the instance's own, which goes with
	// it. Empty means none.
	Workspace string `json:"workspace,omitempty"`
}

// State is one of the four words that old clients know.
type State string

// The states.
const (
	StateStopped  State = "stopped"
	StateStarting State = "starting"
	StateRunning  State = "running"
	StatePaused   State = "paused"
)

// Phase is where an instance really is.
type Phase string

// The phases.
const (
	PhaseStopped    Phase = "stopped"
	PhaseStarting   Phase = "starting"
	PhaseRunning    Phase = "running"
	PhasePaused     Phase = "paused"
	PhaseHibernated Phase = "hibernated"
	PhaseStopping   Phase = "stopping"
	PhaseFailed     Phase = "failed"
)

// State maps a phase onto the old words: hibernated reads as paused, stopping
// as running, failed as stopped.
func (p Phase) State() State {
	switch p {
	case PhaseStarting:
		return StateStarting
	case PhaseRunning, PhaseStopping:
		return StateRunning
	case PhasePaused, PhaseHibernated:
		return StatePaused
	default:
		return StateStopped
	}
}

// Instance is what a client sees of an instance.
type Instance struct {
	ID       string            `json:"id"`
	Handle   string            `json:"handle,omitempty"`
	State    State             `json:"state"`
	Phase    Phase             `json:"phase"`
	Enabled  bool              `json:"enabled"`
	Command  []string          `json:"command"`
	ImageRef string            `json:"image_ref,omitempty"`
	Digest   string            `json:"image_digest,omitempty"`
	Env      map[string]string `json:"env,omitempty"`
	Workdir  string            `json:"workdir,omitempty"`
	User     string            `json:"user,omitempty"`
	MemoryMB int               `json:"memory_mb"`
	VCPUs    int               `json:"vcpus"`
	DiskMB   int               `json:"disk_mb"`
	// OwnerUID is the user that created the instance.
	OwnerUID  uint32    `json:"owner_uid"`
	CreatedAt time.Time `json:"created_at"`
	// StartedAt is when the primary process started, StoppedAt when the
	// instance last came to rest.
	StartedAt *time.Time `json:"started_at,omitempty"`
	StoppedAt *time.Time `json:"stopped_at,omitempty"`
	// LastError is why the instance failed, in one line.
	LastError string `json:"last_error,omitempty"`
	// ExitCode and ExitSignal are how the primary process ended.
	ExitCode   *int `json:"exit_code,omitempty"`
	ExitSignal int  `json:"exit_signal,omitempty"`
	// Machine is the machine that runs it, empty when at rest.
	Machine string `json:"machine,omitempty"`
	// SecretKeys are the names of the secrets that its program gets, sorted.
	SecretKeys []string `json:"secret_keys,omitempty"`
	// Hostname, Labels, Exposes, Kit and Idle are those of the spec; Restart
	// is its policy, never where it has none.
	Hostname string            `json:"hostname,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Restart  RestartPolicy     `json:"restart,omitempty"`
	Exposes  []Expose          `json:"exposes,omitempty"`
	Kit      string            `json:"kit,omitempty"`
	Idle     IdlePolicy        `json:"idle_policy,omitempty"`
	// Starts counts all starts, RestartCount those by the policy since a user
	// started the instance. RestartAt is when the next one is due.
	Starts       uint64     `json:"starts,omitempty"`
	RestartCount int        `json:"restart_count,omitempty"`
	RestartAt    *time.Time `json:"restart_at,omitempty"`
	// Workspace is that of the spec.
	Workspace string `json:"workspace,omitempty"`
	// LastActiveAt is when somebody used the instance last, to 10 s: a start,
	// an exec, a copy, an attach, a signal, or the end of a connection.
	// ActiveConnections counts the clients that hold streams of it now, and the
	// connections to its ports, open or waiting.
	LastActiveAt      time.Time `json:"last_active_at"`
	ActiveConnections int       `json:"active_connections"`
	// Sleep tells of its way to sleep and back; nil at rest.
	Sleep *Sleep `json:"sleep,omitempty"`
	Leased
	// UpdatedAt is when what is kept of it was written last.
	UpdatedAt time.Time `json:"updated_at"`
	Reach
	// NetworkSpec is that of the spec.
	NetworkSpec
}

// Event is one change that a client may follow.
type Event struct {
	// Seq grows by one with each event and restarts with the daemon; it is 0
	// for those that a client finds out by itself.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	// Type is one of those below; only clients tell gap.
	Type     string `json:"type"`
	Instance string `json:"instance"`
	Handle   string `json:"handle,omitempty"`
	Phase    Phase  `json:"phase,omitempty"`
	// Message is the reason of a failure, what is being waited for, the command
	// of an exec that started, or how one ended.
	Message string `json:"message,omitempty"`
	// ExecID is the exec that it is about; ExitCode and ExitSignal are how that
	// ended.
	ExecID     string `json:"exec_id,omitempty"`
	ExitCode   *int   `json:"exit_code,omitempty"`
	ExitSignal int    `json:"exit_signal,omitempty"`
	// Reason is the name of the counter (see NetworkState) of packets that were
	// denied, Packets how many since the event before.
	Reason  string `json:"reason,omitempty"`
	Packets uint64 `json:"packets,omitempty"`
}

// The event types.
const (
	EventCreated  = "created"
	EventPhase    = "phase"
	EventChanged  = "changed" // its name, whether it is enabled, or a restart that is due
	EventProgress = "progress"
	EventExited   = "exited"
	// An instance was put to sleep or woken; the message says why, and how long
	// that took.
	EventPaused     = "instance.paused"
	EventHibernated = "instance.hibernated"
	EventWoken      = "instance.woken"
	// EventLost is told of one that could not be woken: it was started anew,
	// and its programs are lost; the message says why.
	EventLost    = "instance.lost"
	EventDeleted = "deleted"
	EventGap     = "gap" // a client lost the stream and has it again
	// An exec ended with a client when that has left; of one that goes with its
	// machine the phase tells.
	EventExecStarted = "exec.started"
	EventExecEnded   = "exec.ended"
	// What a guest sent, or what was sent to it, was dropped; told at most once a
	// second for each instance and reason.
	EventDenied = "network.denied"
)

// Status describes the daemon.
type Status struct {
	Status  string `json:"status"` // "running"
	Version string `json:"version"`
	// Composition is "system" or "standalone".
	Composition string `json:"composition"`
	// Backend is the machine driver, Accel what it runs on.
	Backend string `json:"backend"`
	Accel   string `json:"accel"`
	// Missing is what the driver lacks, without which no machine starts.
	Missing string `json:"missing,omitempty"`
	// Warnings are told to the user as they are, such as missing KVM; what
	// is missing is among them.
	Warnings []string `json:"warnings,omitempty"`
	// Network is what an instance gets that asks for none, nat or none;
	// NetworkNote says why it is none, or what is wrong with it. NetworkKind is
	// "tap" where machines have links to the host's kernel, "user" where their
	// networks are in their own jails; NetworkWhy says why it is the second.
	Network     string `json:"network"`
	NetworkNote string `json:"network_note,omitempty"`
	// Front is where HTTP requests for all instances are taken, empty where
	// they are not; FrontNote says why.
	Front       string `json:"front,omitempty"`
	FrontNote   string `json:"front_note,omitempty"`
	NetworkKind string `json:"network_kind,omitempty"`
	NetworkWhy  string `json:"network_why,omitempty"`
	// Kernel is the guest kernel in use.
	Kernel string `json:"kernel"`
	// Instances counts instances by phase.
	Instances    map[Phase]int `json:"instances"`
	Capabilities struct {
		PauseResume bool `json:"pause_resume"`
		Snapshots   bool `json:"snapshots"`
	} `json:"capabilities"`
}

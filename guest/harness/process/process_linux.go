package process

import (
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// Spec is what to start.
type Spec struct {
	ID        string
	Argv, Env []string
	// Cwd is the user's home directory if empty, User is root.
	Cwd, User string
	// Stdin, Stdout and Stderr tell what is a stream; the rest is /dev/null.
	Stdin, Stdout, Stderr bool
	// Terminal makes a terminal all three of them.
	Terminal *Terminal
	Lifetime proto.Lifetime
	// Kept keeps the output of a detached process for a host that stores it.
	Kept bool
	// Timeout ends the process; 0 means never.
	Timeout time.Duration
}

// process is one program that runs or has run.
type process struct {
	id       string
	argv     []string // cut, to be shown
	lifetime proto.Lifetime
	reaper   *Reaper
	begun    time.Time
	pid      int
	// done is closed after status and output are set.
	done    chan struct{}
	status  proto.ProcessStatus
	output  proto.Output
	streams [proto.Terminal + 1]*stream // nil where there is none
	life    life
	group   *group // nil where its session stands for it

	mu      sync.Mutex // guards the field below
	fetched bool       // the host knows the status
}

// start starts the program. A program that cannot be run has ended at once;
// an error is one of the guest itself.
func start(r *Reaper, gs *groups, s Spec) (*process, error) {
	p := &process{
		id: s.ID, argv: cut(s.Argv), lifetime: s.Lifetime, reaper: r, begun: time.Now(), done: make(chan struct{}),
	}
	path, attr, why := p.prepare(s)
	if why != nil {
		p.end(*why)
		return p, nil
	}
	files, err := p.connect(s, attr.Sys)
	defer closeAll(files)
	if err != nil {
		p.close()
		return nil, err
	}
	if s.Kept {
		p.keepOutput()
	}
	for _, f := range files {
		attr.Files = append(attr.Files, f.Fd())
	}
	if s.Lifetime == proto.Lifetime_LIFETIME_CLIENT || s.Timeout > 0 {
		p.group = gs.make()
	}
	p.group.join(attr.Sys)
	defer p.group.started()
	pid, err := r.Start(func() (int, error) { return forkExec(path, s.Argv, attr) }, func(w syscall.WaitStatus) {
		p.end(exitStatus(w))
	})
	if err != nil {
		p.close()
		p.streams = [proto.Terminal + 1]*stream{}
		p.end(*refused(s.Argv[0], err, "its interpreter is missing"))
		return p, nil
	}
	p.pid = pid
	p.live(s.Timeout)
	return p, nil
}

// connect makes what stdin, stdout and stderr of the program are.
func (p *process) connect(s Spec, attr *syscall.SysProcAttr) ([]*os.File, error) {
	if s.Terminal != nil {
		return p.console(*s.Terminal, attr)
	}
	return p.plumb(s)
}

// prepare finds the user, the directory and the program.
func (p *process) prepare(s Spec) (string, *syscall.ProcAttr, *proto.ProcessStatus) {
	who, err := lookup("/", s.User)
	if err != nil {
		return "", nil, &proto.ProcessStatus{Code: codeNotExecutable, Message: err.Error()}
	}
	attr := &syscall.ProcAttr{
		Dir: s.Cwd, Env: environment(s.Env, who),
		Sys: &syscall.SysProcAttr{Setsid: true},
	}
	if os.Getuid() == 0 {
		attr.Sys.Credential = &syscall.Credential{Uid: who.uid, Gid: who.gid, Groups: who.groups}
	}
	if attr.Dir == "" {
		attr.Dir = home(who)
	} else if info, err := os.Stat(attr.Dir); err != nil || !info.IsDir() {
		return "", nil, refusal(codeNotExecutable, s.Cwd, "no such working directory")
	}
	if s.Terminal != nil && s.Terminal.Term != "" && getenv(s.Env, "TERM") == "" {
		attr.Env = append(slices.Clip(attr.Env), "TERM="+s.Terminal.Term)
	}
	path, why := find(s.Argv[0], attr.Dir, s.Env)
	return path, attr, why
}

// environment adds the HOME that every program may expect.
func environment(env []string, who account) []string {
	if slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		return env
	}
	return append(slices.Clip(env), "HOME="+who.home)
}

// home is the user's home directory if it is there.
func home(who account) string {
	if info, err := os.Stat(who.home); err == nil && info.IsDir() {
		return who.home
	}
	return "/"
}

// plumb makes the pipes and returns the program's ends.
func (p *process) plumb(s Spec) ([]*os.File, error) {
	var files []*os.File
	for k, isStream := range []bool{s.Stdin, s.Stdout, s.Stderr} {
		var f *os.File
		var err error
		if isStream {
			p.streams[k], f, err = newStream(p, proto.Kind(k))
		} else {
			f, err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
		}
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// end sets how the program ended, and how much it has written.
func (p *process) end(s proto.ProcessStatus) {
	p.status = p.life.over(s)
	p.streams[proto.Terminal].seal()
	p.output = proto.Output{Stdout: p.streams[proto.Stdout].seal(), Stderr: p.streams[proto.Stderr].seal()}
	close(p.done)
	if p.group != nil {
		go p.group.end() // ends with a few calls of the kernel
	}
}

// close closes our ends of the pipes.
func (p *process) close() {
	for _, s := range p.streams {
		if s != nil {
			s.discard()
		}
	}
}

// settled tells whether the host has got all there is of an ended process.
func (p *process) settled() bool {
	select {
	case <-p.done:
	default:
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.fetched {
		return false
	}
	for _, s := range p.streams {
		if s != nil && !s.finished() {
			return false
		}
	}
	return true
}

func exitStatus(w syscall.WaitStatus) proto.ProcessStatus {
	if w.Signaled() {
		n := int(w.Signal())
		return proto.ProcessStatus{Code: 128 + n, Signal: n}
	}
	return proto.ProcessStatus{Code: w.ExitStatus()}
}

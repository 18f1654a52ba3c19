package instance

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/vmm"
)

// primary is the id of the instance's own process in the guest.
const primary = api.PrimaryExec

// defaultPath is the PATH of a program whose image and spec have none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// started is what a successful start hands to the owner; after a failure
// only the digest may be set.
type started struct {
	digest  string
	config  *image.Config
	session *guestsession.Session
	streams *api.Streams
}

func (u started) close() {
	if u.session != nil {
		u.session.Close()
	}
	if u.streams != nil {
		u.streams.Close()
	}
}

// bringUp goes from a committed record to a running program. The machine of a
// start that failed is the owner's to release.
func (o *owner) bringUp(b *boot) (up started, err error) {
	took := newLaps()
	// What is missing is better known before a machine has booted.
	if _, err := o.secretEnv(b.ctx); err != nil {
		return up, err
	}
	if err := o.readmitWorkspace(b); err != nil {
		return up, err
	}
	img, err := o.prepareImage(b.ctx)
	if err != nil {
		return up, fmt.Errorf("preparing the image: %w", err)
	}
	up.digest, up.config = img.Digest, &img.Config
	took.lap("image")
	if err := o.startMachine(b, img); err != nil {
		return up, err
	}
	if !o.postBoot(b, func() { o.onMachineUp(b) }) {
		return up, errReleased
	}
	took.lap("machine")
	up.session, up.streams, err = o.startProgram(b, img, took)
	if err != nil {
		return up, fmt.Errorf("starting the program: %w", err)
	}
	o.svc.Log.Info("started", "instance", o.id, "machine", b.machine, "took", took.group())
	return up, nil
}

// onMachineUp notes that from now on the manager's word counts, also what it
// said before.
func (o *owner) onMachineUp(b *boot) {
	b.up = true
	if b.end != nil && b.outcome == nil {
		o.release(outcome{phase: api.PhaseFailed, err: endError(*b.end)})
	}
}

// progress tells followers of events what a start waits for. Each stage is
// told once and then each whole per cent of it.
func (o *owner) progress() func(image.Progress) {
	last, noted := "", ""
	return func(p image.Progress) {
		o.noteImage(p, &noted)
		text := "image: " + p.Stage
		if p.Total > 0 {
			text += fmt.Sprintf(" %d%%", p.Done*100/p.Total)
		}
		if text != last {
			last = text
			o.emit(api.EventProgress, text)
		}
	}
}

func (o *owner) startMachine(b *boot, img image.Image) error {
	err := o.svc.Images.CreateDisk(b.ctx, o.id, int64(o.spec.DiskMB)<<20)
	if err != nil && api.CodeOf(err) != api.Exists {
		return fmt.Errorf("making the disk: %w", err)
	}
	if err := o.attach(b); err != nil {
		return err
	}
	o.emit(api.EventProgress, "booting")
	o.note(api.LogStderr, "[aegis] booting")
	return o.startOn(b, img.Digest, "")
}

// startOn starts the machine of a boot on the disks of its instance, or goes on
// with it from a snapshot.
func (o *owner) startOn(b *boot, digest, snapshot string) error {
	imageDisk, err := o.svc.Images.Open(b.ctx, digest)
	if err != nil {
		return fmt.Errorf("opening the image: %w", err)
	}
	defer imageDisk.Close()
	ownDisk, err := o.svc.Images.OpenDisk(b.ctx, o.id)
	if err != nil {
		return fmt.Errorf("opening the disk: %w", err)
	}
	defer ownDisk.Close()
	_, err = o.svc.Machines.Start(b.ctx, vmm.Spec{
		ID: b.machine, MemoryMiB: o.spec.MemoryMB, VCPUs: o.spec.VCPUs, ReadyTimeout: o.svc.Timings.Ready,
		Network: b.network(), Restore: snapshot,
		Disks: []vmm.Disk{
			{Role: vmm.RoleImage, ReadOnly: true, File: imageDisk},
			{Role: vmm.RoleOwn, File: ownDisk},
		},
	})
	if err != nil {
		return fmt.Errorf("starting the machine: %w", err)
	}
	return nil
}

// dial connects to a port of a boot's machine.
func (o *owner) dial(b *boot) guestsession.Dial {
	return func(ctx context.Context, port uint32) (*os.File, error) {
		return o.svc.Machines.Connect(ctx, b.machine, port)
	}
}

func (o *owner) startProgram(b *boot, img image.Image, took *laps) (*guestsession.Session, *api.Streams, error) {
	session, err := guestsession.Open(b.ctx, o.dial(b))
	if err != nil {
		return nil, nil, err
	}
	took.lap("hello")
	streams, err := o.startIn(b, session, img.Config, took)
	if err != nil {
		session.Close()
		return nil, nil, err
	}
	return session, streams, nil
}

func (o *owner) startIn(b *boot, session *guestsession.Session, conf image.Config, took *laps) (*api.Streams, error) {
	if err := session.Identify(b.ctx, o.identity(b)); err != nil {
		return nil, err
	}
	took.lap("identity")
	if err := o.mountWorkspace(b, session); err != nil {
		return nil, err
	}
	took.lap("workspace")
	env, err := o.environment(b.ctx, conf)
	if err != nil {
		return nil, err
	}
	err = session.Start(b.ctx, guestsession.Process{
		ID: primary,
		// As `docker run IMAGE CMD`: the image's entrypoint stays, its
		// command is replaced.
		Argv:    append(slices.Clone(conf.Entrypoint), o.spec.Command...),
		Env:     env,
		Cwd:     firstOf(o.spec.Workdir, conf.Workdir),
		User:    firstOf(o.spec.User, conf.User),
		Streams: true, Stdin: o.spec.Stdin,
		Terminal: terminalOf(o.spec.Terminal), Lifetime: lifetimeOf(o.spec),
	})
	took.lap("program")
	if err != nil || !o.spec.Attach {
		return nil, err
	}
	defer took.lap("streams")
	return o.streams(b.ctx, b, primary, o.spec.TTY, o.spec.Stdin)
}

// identity is what makes the machine this instance. Its machine id is a
// function of the instance's, so that it is the same at every start.
func (o *owner) identity(b *boot) *proto.Identity {
	entropy := make([]byte, 32)
	rand.Read(entropy)
	sum := sha256.Sum256([]byte("aegis machine-id " + o.id))
	return &proto.Identity{
		Hostname: firstOf(o.spec.Hostname, firstOf(o.view.Load().Handle, o.id)), Entropy: entropy, UnixNano: time.Now().UnixNano(),
		InstanceId: o.id, MachineId: hex.EncodeToString(sum[:16]), Network: b.guestNetwork(),
	}
}

// environment lays the layers over the image's variables, the later ones over
// the earlier ones. HOME is the harness's to set: only the guest knows whose
// it is.
func environment(img []string, layers ...map[string]string) []string {
	env := map[string]string{"PATH": defaultPath}
	for _, kv := range img {
		if k, v, ok := strings.Cut(kv, "="); ok && k != "" {
			env[k] = v
		}
	}
	for _, layer := range layers {
		maps.Copy(env, layer)
	}
	list := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

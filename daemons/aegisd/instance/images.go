package instance

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
)

// How long calls of the image store may take that write to the disk, and those
// that bring or build an image.
const (
	imageTimeout = 2 * time.Minute
	pullTimeout  = time.Hour
)

// imageGate keeps an image from being removed between the moment when a start
// finds it and the moment when the start has made it its own.
type imageGate struct{ sync.RWMutex }

// prepareImage makes sure that the disk of the instance's image exists, and
// that it stays. An instance keeps the image of its first start, whatever its
// name means later: its own disk lies over that one.
func (o *owner) prepareImage(ctx context.Context) (image.Image, error) {
	for {
		img, err := o.findImage(ctx)
		if err != nil {
			return img, err
		}
		there, err := o.pinImage(ctx, img)
		if there || err != nil {
			return img, err
		}
	}
}

// pinImage makes an image the instance's own; false if it was removed a moment
// ago.
func (o *owner) pinImage(ctx context.Context, img image.Image) (bool, error) {
	o.svc.gate.RLock()
	defer o.svc.gate.RUnlock()
	f, err := o.svc.Images.Open(ctx, img.Digest)
	if api.CodeOf(err) == api.NotFound {
		return false, ctx.Err()
	}
	if err != nil {
		return false, err
	}
	f.Close()
	o.pin.Store(&img.Digest)
	return true, nil
}

func (o *owner) findImage(ctx context.Context) (image.Image, error) {
	first := o.view.Load().Digest
	if first != "" {
		img, err := o.svc.Images.Prepare(ctx, first, o.progress())
		if code := api.CodeOf(err); code != api.NotFound && code != api.InvalidArgument {
			return img, err
		}
	}
	img, err := o.bringImage(ctx)
	if err == nil && first != "" && img.Digest != first {
		return img, api.Errorf(api.NotFound, "its image %s is gone, and %q means %s now: delete the instance and create it anew", first, o.spec.ImageRef, img.Digest)
	}
	return img, err
}

func (o *owner) bringImage(ctx context.Context) (image.Image, error) {
	if image.Named(o.spec.ImageRef) {
		return o.svc.Images.Pull(ctx, o.spec.ImageRef, o.spec.Pull, o.progress())
	}
	return o.svc.Images.Prepare(ctx, o.spec.ImageRef, o.progress())
}

func checkPull(spec api.InstanceSpec) error { return spec.Pull.Check() }

// imageUsers tells which instances have which image.
func (s *Service) imageUsers() map[string][]string {
	users := map[string][]string{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owners {
		in := o.view.Load()
		digests := []string{in.Digest}
		if pin := o.pin.Load(); pin != nil && *pin != in.Digest {
			digests = append(digests, *pin)
		}
		for _, d := range digests {
			if d != "" {
				users[d] = append(users[d], firstOf(in.Handle, in.ID))
			}
		}
	}
	for _, names := range users {
		slices.Sort(names)
	}
	return users
}

func digests(users map[string][]string) []string {
	all := make([]string, 0, len(users))
	for d := range users {
		all = append(all, d)
	}
	return all
}

// ListImages implements api.Aegis.
func (s *Service) ListImages(ctx context.Context) ([]api.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	all, err := s.Images.List(ctx)
	return s.describeAll(all), atBoundary(err)
}

// ImageInfo implements api.Aegis.
func (s *Service) ImageInfo(ctx context.Context, ref string) (api.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	info, err := s.Images.Info(ctx, ref)
	return describeImage(info, s.imageUsers()), atBoundary(err)
}

// PullImage implements api.Aegis.
func (s *Service) PullImage(ctx context.Context, ref string, policy api.PullPolicy, progress func(api.ImageProgress)) (api.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	img, err := s.Images.Pull(ctx, ref, policy, func(p image.Progress) {
		if progress != nil {
			progress(api.ImageProgress{Stage: p.Stage, Done: p.Done, Total: p.Total})
		}
	})
	if err != nil {
		return api.Image{}, atBoundary(givenUp(ctx, err))
	}
	info, err := s.Images.Info(ctx, img.Digest)
	return describeImage(info, s.imageUsers()), atBoundary(err)
}

// givenUp says that it was the caller, or the clock, that ended a call.
func givenUp(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	return err
}

// TagImage implements api.Aegis.
func (s *Service) TagImage(ctx context.Context, ref, name string) (api.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	info, err := s.Images.Tag(ctx, ref, name)
	return describeImage(info, s.imageUsers()), atBoundary(err)
}

// RemoveImage implements api.Aegis.
func (s *Service) RemoveImage(ctx context.Context, ref string) error {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	s.gate.Lock()
	defer s.gate.Unlock()
	users := s.imageUsers()
	err := s.Images.Remove(ctx, ref, digests(users))
	if api.CodeOf(err) != api.BadState {
		return atBoundary(err)
	}
	info, unknown := s.Images.Info(ctx, ref)
	if used := users[info.Digest]; unknown == nil && len(used) > 0 {
		return api.Errorf(api.BadState, "image %s is in use by %s: delete it first", ref, someOf(used))
	}
	return atBoundary(err)
}

// someOf keeps a list fit for one line.
func someOf(names []string) string {
	text := names[0]
	for _, name := range names[1:min(len(names), 5)] {
		text += ", " + name
	}
	if more := len(names) - 5; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// PruneImages implements api.Aegis.
func (s *Service) PruneImages(ctx context.Context) ([]api.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	s.gate.Lock()
	defer s.gate.Unlock()
	removed, err := s.Images.Prune(ctx, digests(s.imageUsers()))
	return s.describeAll(removed), atBoundary(err)
}

// LoadImage implements api.Aegis.
func (s *Service) LoadImage(ctx context.Context, archive *os.File, name string) ([]api.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	all, err := s.Images.Load(ctx, archive, name, nil)
	if err != nil {
		return nil, atBoundary(givenUp(ctx, err))
	}
	return s.describeAll(all), nil
}

// SaveImage implements api.Aegis.
func (s *Service) SaveImage(ctx context.Context, refs []string, to *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	if err := s.Images.Save(ctx, refs, to); err != nil {
		return atBoundary(givenUp(ctx, err))
	}
	return nil
}

func (s *Service) describeAll(infos []image.Info) []api.Image {
	users := s.imageUsers()
	all := make([]api.Image, len(infos))
	for i, info := range infos {
		all[i] = describeImage(info, users)
	}
	return all
}

func describeImage(i image.Info, users map[string][]string) api.Image {
	return api.Image{
		Digest: i.Digest, Names: i.Names, Size: i.Size, PackedSize: i.Packed, Layers: i.Layers,
		CreatedAt: i.Prepared, Base: i.Base, UsedBy: users[i.Digest],
		Env: i.Config.Env, Entrypoint: i.Config.Entrypoint, Command: i.Config.Cmd,
		Workdir: i.Config.Workdir, User: i.Config.User,
	}
}

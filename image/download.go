package image

import (
	"context"
	"fmt"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image/registry"
)

const (
	// tries in a row of a blob of which little comes.
	tries = 3
	// much is what makes a try worth another one, whatever became of it.
	much = 1 << 20
)

// download is one blob on its way from a registry.
type download struct {
	*intake
	what string
	want ocispec.Descriptor
	from remoteOrigin
	have *partial
	// joined says that not all bytes are of one answer.
	joined bool
	// counted is how many bytes were reported; no byte is reported twice.
	counted int64
}

// download brings a blob. It goes on where an earlier try ended, be it of a
// process that was killed.
func (in *intake) download(ctx context.Context, what string, d ocispec.Descriptor, from remoteOrigin) error {
	have, err := in.store.openPartial(ctx, d)
	if err != nil {
		return err
	}
	if in.store.sound(ctx, d) { // another process brought it meanwhile
		have.close(false)
		in.count(d.Size)
		return nil
	}
	l := &download{intake: in, what: what, want: d, from: from, have: have, joined: have.n > 0}
	err = l.whole(ctx)
	have.close(resumable(err))
	return err
}

// resumable tells whether it makes sense to go on where err ended a download. A
// full disk is given back what it has.
func resumable(err error) bool {
	return err != nil && (ended(err) || api.CodeOf(err) == api.Unavailable)
}

// whole makes the blob whole. Where parts of it do not fit, it is brought from
// its beginning.
func (l *download) whole(ctx context.Context) error {
	l.report()
	err := l.persist(ctx)
	if l.joined && api.CodeOf(err) == api.InvalidArgument {
		l.store.log.Info("transfer starts again", "digest", l.want.Digest, "error", err)
		if err = l.have.restart(); err == nil {
			err = l.persist(ctx)
		}
	}
	if err != nil {
		return err
	}
	return moveSynced(l.have.file.Name(), l.store.blobPath(l.want))
}

// persist tries until the blob is whole and checked, or little comes.
func (l *download) persist(ctx context.Context) error {
	for try := 1; ; try++ {
		before := l.have.n
		err := l.try(ctx)
		if err == nil {
			return l.have.check(l.what, l.want)
		}
		if l.have.n-before >= much {
			try = 1
		}
		if !registry.Failed(err) || try == tries {
			return err
		}
		l.store.log.Info("transfer broke off", "digest", l.want.Digest, "bytes", l.have.n, "try", try, "error", err)
		if err := rest(ctx, time.Duration(try)*200*time.Millisecond); err != nil {
			return err
		}
	}
}

// try asks for what is missing and takes what comes.
func (l *download) try(ctx context.Context) error {
	if l.have.n == l.want.Size && l.want.Size > 0 {
		return nil
	}
	body, at, err := l.from.OpenFrom(ctx, l.want, l.have.n)
	if err != nil {
		return fmt.Errorf("%s: %w", l.what, err)
	}
	defer body.Close()
	if l.joined = at > 0; !l.joined {
		if err := l.have.restart(); err != nil {
			return err
		}
	}
	_, err = io.Copy(struct{ io.Writer }{l}, &progressReader{ctx: ctx, r: body})
	return err
}

// Write takes bytes of the blob and reports them.
func (l *download) Write(b []byte) (int, error) {
	if int64(len(b)) > l.want.Size-l.have.n {
		return 0, broken("%s is damaged: expected %d bytes, found more", l.what, l.want.Size)
	}
	n, err := l.have.Write(b)
	l.report()
	return n, err
}

func (l *download) report() {
	if more := l.have.n - l.counted; more > 0 {
		l.count(more)
		l.counted = l.have.n
	}
}

// rest waits between two tries.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

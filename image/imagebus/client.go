package imagebus

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/image"
)

// Client speaks to imaged over the bus. It is an image.Store.
type Client struct{ manager bus.Object }

var _ image.Store = (*Client)(nil)

// NewClient makes a client on a connection, which stays the caller's to
// close.
func NewClient(conn *bus.Conn) *Client {
	return &Client{conn.Object(bus.ImageName, bus.ImagePath, bus.ImageManager)}
}

// How long calls may take that write to the disk.
const (
	prepareTimeout = time.Hour
	diskTimeout    = 2 * time.Minute
)

// Prepare implements image.Store. The work ends when ctx does.
func (c *Client) Prepare(ctx context.Context, ref string, report func(image.Progress)) (image.Image, error) {
	if err := sendable(ref); err != nil {
		return image.Image{}, err
	}
	var d bus.Dict
	if err := c.during(ctx, report, "Prepare", bus.Args{ref}, &d); err != nil {
		return image.Image{}, err
	}
	return fromDict[image.Image](d)
}

// during makes a call that works as long as we hold a session, which is its
// last argument and tells its progress.
func (c *Client) during(ctx context.Context, report func(image.Progress), method string, args bus.Args, results ...any) error {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	ours, theirs, err := socketPair()
	if err != nil {
		return api.Errorf(api.Internal, "make a session: %w", err)
	}
	reported := make(chan struct{})
	go func() { // ends with ours, or with theirs when imaged has it no more
		defer close(reported)
		follow(ours, report)
	}()
	err = c.manager.Call(ctx, method, append(args, theirs), results...)
	theirs.Close()
	if err != nil {
		ours.Close()
	}
	<-reported // after it, report is not called any more
	ours.Close()
	return err
}

func fromDict[T any](d bus.Dict) (v T, err error) {
	if err := bus.FromDict(d, &v); err != nil {
		return v, api.Errorf(api.Internal, "answer of imaged: %w", err)
	}
	return v, nil
}

func fromDicts(dicts []bus.Dict, err error) ([]image.Info, error) {
	if err != nil {
		return nil, err
	}
	return bus.FromDicts(dicts, fromDict[image.Info])
}

// sendable refuses what a string on the bus cannot be; sending it would cost
// the connection.
func sendable(all ...string) error {
	for _, s := range all {
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			return api.Errorf(api.InvalidArgument, "%.80q: expected UTF-8 without NUL", s)
		}
	}
	return nil
}

// follow reports what a session tells until it ends.
func follow(session *os.File, report func(image.Progress)) {
	dec := json.NewDecoder(session)
	for {
		var p image.Progress
		if dec.Decode(&p) != nil {
			return
		}
		if report != nil {
			report(p)
		}
	}
}

// Open implements image.Store.
func (c *Client) Open(ctx context.Context, digest string) (*os.File, error) {
	return c.open(ctx, "Open", digest)
}

// OpenDisk implements image.Store.
func (c *Client) OpenDisk(ctx context.Context, id string) (*os.File, error) {
	return c.open(ctx, "OpenDisk", id)
}

func (c *Client) open(ctx context.Context, method, name string) (*os.File, error) {
	if err := sendable(name); err != nil {
		return nil, err
	}
	var f *os.File
	err := c.manager.Call(ctx, method, bus.Args{name}, &f)
	return f, err
}

// CreateDisk implements image.Store.
func (c *Client) CreateDisk(ctx context.Context, id string, size int64) error {
	return c.write(ctx, "CreateDisk", id, size)
}

// DeleteDisk implements image.Store.
func (c *Client) DeleteDisk(ctx context.Context, id string) error {
	return c.write(ctx, "DeleteDisk", id)
}

func (c *Client) write(ctx context.Context, method, id string, more ...any) error {
	if err := sendable(id); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, diskTimeout)
	defer cancel()
	return c.manager.Call(ctx, method, append(bus.Args{id}, more...))
}

// Disks implements image.Store.
func (c *Client) Disks(ctx context.Context) ([]string, error) {
	ids := []string{}
	err := c.manager.Call(ctx, "ListDisks", nil, &ids)
	return ids, err
}

package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/bus/bustest"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagebus"
	"github.com/xfeldman/aegisvm/image/imagetest"
)

// prepares is how often an image that is here is prepared again.
const prepares = 200

// BenchmarkPrepareAgain prepares an image of 500 MB that is here already, and
// opens its disk, as each start of an instance does: in the process, as the
// standalone daemon has it, and over the bus, as the services have it.
func BenchmarkPrepareAgain(b *testing.B) {
	local, err := image.Open(b.TempDir(), image.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer local.Close()
	name := loadLarge(b, local)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	address, served := bustest.Start(b), make(chan error, 2)
	conn := bustest.Dial(b, address)
	go func() { served <- imagebus.Serve(ctx, conn, local, "root", func() { served <- nil }) }()
	if err := <-served; err != nil {
		b.Fatal(err)
	}
	for how, store := range map[string]image.Store{"in-process": local, "bus": imagebus.NewClient(bustest.Dial(b, address))} {
		b.Run(how, func(b *testing.B) {
			for b.Loop() {
				var all []time.Duration
				for range prepares {
					all = append(all, took(func() { prepare(b, store, name) }))
				}
				b.ReportMetric(ms(median(all)), "prepare-ms")
				b.ReportMetric(ms(slices.Max(all)), "prepare-max-ms")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

func prepare(b *testing.B, store image.Store, name string) {
	b.Helper()
	img, err := store.Prepare(b.Context(), name, nil)
	if err != nil {
		b.Fatal(err)
	}
	f, err := store.Open(b.Context(), img.Digest)
	if err != nil {
		b.Fatal(err)
	}
	f.Close()
}

// loadLarge loads an image of 500 files of a megabyte, in five layers.
func loadLarge(b *testing.B, store image.Store) (name string) {
	b.Helper()
	body := make([]byte, 1_000_000)
	rand.Read(body)
	var img imagetest.Image
	for l := range 5 {
		var entries []imagetest.Entry
		for f := range 100 {
			entries = append(entries, imagetest.File(fmt.Sprintf("layer%d/file%d", l, f), string(body[f:])))
		}
		img.Layers = append(img.Layers, imagetest.Layer{Entries: entries})
	}
	dir, err := os.Open(imagetest.Layout(b, img))
	if err != nil {
		b.Fatal(err)
	}
	defer dir.Close()
	defer debug.FreeOSMemory() // of what the image was made in
	begin := time.Now()
	all, err := store.Load(b.Context(), dir, "large:1", nil)
	if err != nil || all[0].Size < 490_000_000 {
		b.Fatalf("%+v, %v", all, err)
	}
	b.Logf("loaded in %v: a disk of %d bytes", time.Since(begin).Round(time.Millisecond), all[0].Size)
	return all[0].Names[0]
}

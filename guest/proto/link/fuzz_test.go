package link

import (
	"bytes"
	"testing"
)

// FuzzGuestDecoder gives the guest's decoder any bytes, then what a new host
// sends: it must find that host, and believe no frame of another epoch.
func FuzzGuestDecoder(f *testing.F) {
	old, fresh := epoch{7, 7, 7}, epoch{1, 2, 3, 4, 5, 6, 7, 8, 9}
	f.Add([]byte{}, uint16(1))
	f.Add(control(kindReset, &old), uint16(3))
	f.Add(append(control(kindReset, &old), make([]byte, 100)...), uint16(40))
	f.Add([]byte("AGL\x03\x00\x00\x10\x00"), uint16(4096))
	f.Fuzz(func(t *testing.T, noise []byte, step uint16) {
		if len(noise) > maxFrame || bytes.Contains(noise, fresh[:tailLen]) {
			t.Skip()
		}
		stream := append(append(noise, make([]byte, padding)...), control(kindReset, &fresh)...)
		d := &guestDecoder{}
		if last := drain(t, d, stream, int(step)+1); last.kind != kindReset || last.epoch != fresh {
			t.Fatalf("the new host was not found; the last frame is %v", last)
		}
	})
}

// FuzzHostDecoder gives the host's decoder what a guest may send.
func FuzzHostDecoder(f *testing.F) {
	e := epoch{1, 2, 3}
	f.Add([]byte{}, uint16(1))
	f.Add(control(kindAccept, &e), uint16(1))
	f.Add(append(control(kindAccept, &e), control(kindAccept, &e)...), uint16(100))
	f.Fuzz(func(t *testing.T, stream []byte, step uint16) {
		d := &hostDecoder{epoch: e}
		last := drain(t, d, stream, int(step)+1)
		if last.kind != kindNone && !bytes.Contains(stream, control(kindAccept, &e)) {
			t.Fatal("a frame was believed before the guest accepted the epoch")
		}
	})
}

// drain decodes a stream that comes in steps and returns the last frame.
func drain(t *testing.T, d decoder, stream []byte, step int) (last frame) {
	t.Helper()
	var have []byte
	for len(stream) > 0 {
		n := min(step, len(stream))
		have, stream = append(have, stream[:n]...), stream[n:]
		for {
			n, f, err := d.next(have)
			if err != nil {
				return last
			}
			if n < 0 || n > len(have) || len(f.body) > maxBody {
				t.Fatalf("dropping %d of %d bytes", n, len(have))
			}
			if f.kind != kindNone {
				last = f
			}
			if n == 0 {
				break
			}
			have = have[n:]
		}
		if len(have) > maxFrame {
			t.Fatalf("%d bytes are kept undecoded", len(have))
		}
	}
	return last
}

package archive

import "os"

// window is how much of a large file is read ahead at once, so that the disk
// works while what came before is sent.
const window = 1 << 20

// ahead reads a large file and lets the kernel fetch what comes next meanwhile.
type ahead struct {
	file      *os.File
	at, asked int64
}

func (a *ahead) Read(b []byte) (int, error) {
	for a.asked < a.at+2*window {
		willNeed(a.file, a.asked, window)
		a.asked += window
	}
	n, err := a.file.Read(b)
	a.at += int64(n)
	return n, err
}

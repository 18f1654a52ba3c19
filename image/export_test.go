package image

// WithoutMke2fs makes the store look for a program that is not there.
func (s *Local) WithoutMke2fs() { s.mke2fs = []string{"no-such-mke2fs"} }

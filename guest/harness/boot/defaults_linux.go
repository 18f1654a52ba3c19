package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// missing are files that programs expect and an image may lack.
var missing = map[string]string{
	"etc/resolv.conf": "nameserver 127.0.0.1\n",
	"etc/hosts":       "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
}

// defaults writes them below root where there is nothing of the name, not
// even a link that leads nowhere.
func defaults(root string) error {
	for name, content := range missing {
		path := filepath.Join(root, name)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("completing the image: %w", err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return fmt.Errorf("completing the image: %w", err)
		}
	}
	return nil
}

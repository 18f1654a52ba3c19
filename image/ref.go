package image

import (
	"path/filepath"
	"strings"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image/registry"
)

// reference is an image reference, taken apart: the digest of an image that
// is here, the name of one in a registry, or a manifest of an OCI layout.
type reference struct {
	digest string
	name   string // with the defaults filled in
	layout string // absolute path of the layout
	tag    string // which manifest of the layout; empty if there is but one
}

// parseRef takes ref apart; base is the layout that the empty one means.
func parseRef(ref, base string) (reference, error) {
	switch {
	case strings.ContainsRune(ref, 0) || len(ref) > 4096:
		return reference{}, api.Errorf(api.InvalidArgument, "image reference: longer than 4096 bytes or holding a NUL")
	case ref == "" && base == "":
		return reference{}, api.Errorf(api.Unavailable, "no base image is installed: name an image, as in oci:/path/of/an/oci/layout")
	case ref == "":
		return reference{layout: base}, nil
	case strings.HasPrefix(ref, "sha256:"):
		if !digestPattern.MatchString(ref) {
			return reference{}, api.Errorf(api.InvalidArgument, "image digest %q: expected sha256: and 64 hexadecimal digits", ref)
		}
		return reference{digest: ref}, nil
	case strings.HasPrefix(ref, "oci:"):
		return parseLayout(ref, strings.TrimPrefix(ref, "oci:"))
	case filepath.IsAbs(ref):
		return reference{layout: filepath.Clean(ref)}, nil
	default:
		n, err := registry.Parse(ref)
		if err != nil {
			return reference{}, err
		}
		return reference{name: n.String()}, nil
	}
}

// parseLayout takes PATH[:TAG] apart: what follows the last colon is a tag
// unless it holds a slash.
func parseLayout(ref, rest string) (reference, error) {
	r := reference{layout: rest}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.Contains(rest[i:], "/") {
		r.layout, r.tag = rest[:i], rest[i+1:]
		if r.tag == "" {
			return r, api.Errorf(api.InvalidArgument, "image %q: nothing follows the last colon: expected oci:PATH[:TAG]", ref)
		}
	}
	if !filepath.IsAbs(r.layout) {
		return r, api.Errorf(api.InvalidArgument, "image %q: the path is not absolute: expected oci:/PATH[:TAG]", ref)
	}
	r.layout = filepath.Clean(r.layout)
	return r, nil
}

// Named tells whether ref is the name of an image in a registry, so that Pull
// can bring it.
func Named(ref string) bool {
	r, err := parseRef(ref, "")
	return err == nil && r.name != ""
}

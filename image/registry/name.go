package registry

import (
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/xfeldman/aegisvm/api"
)

// dockerHub is how people name the registry that the library calls
// name.DefaultRegistry.
const dockerHub = "docker.io"

// host and repository are the grammar of the OCI: the library below would take
// "..".
var host = regexp.MustCompile(`^[A-Za-z0-9\[][A-Za-z0-9.:\[\]-]*$`)

var repository = regexp.MustCompile(`^[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)

// Name is the name of an image, with the defaults of Docker: debian means
// docker.io/library/debian:latest.
type Name struct{ ref name.Reference }

// Parse reads a name.
func Parse(s string) (Name, error) {
	ref, err := name.ParseReference(s)
	if err != nil || len(s) > 512 || !sound(ref) {
		return Name{}, api.Errorf(api.InvalidArgument,
			"image %.200q: expected a name such as debian:12 or registry.example/name@sha256:..., the absolute path of an OCI layout, oci:PATH[:TAG], or the sha256: digest of an image that is here", s)
	}
	return Name{ref}, nil
}

// sound holds a name against our grammar; of digests we know but one kind. The
// whole name, which has the defaults, must be a name as well.
func sound(ref name.Reference) bool {
	if _, err := name.ParseReference(Name{ref}.String()); err != nil {
		return false
	}
	d, byDigest := ref.(name.Digest)
	return isPlace(ref.Context().Name()) && (!byDigest || strings.HasPrefix(d.DigestStr(), "sha256:"))
}

// isPlace tells whether s is HOST[:PORT] or HOST[:PORT]/PATH.
func isPlace(s string) bool {
	at, path, deep := strings.Cut(s, "/")
	return host.MatchString(at) && (!deep || repository.MatchString(path))
}

// String is the whole name, the same for all spellings of it.
func (n Name) String() string {
	if rest, ok := strings.CutPrefix(n.ref.Name(), name.DefaultRegistry+"/"); ok {
		return dockerHub + "/" + rest
	}
	return n.ref.Name()
}

// Registry is the host, with its port if it has one.
func (n Name) Registry() string {
	if host := n.ref.Context().RegistryStr(); host != name.DefaultRegistry {
		return host
	}
	return dockerHub
}

// Tag is the tag, or empty for a name with a digest.
func (n Name) Tag() string {
	if tag, ok := n.ref.(name.Tag); ok {
		return tag.TagStr()
	}
	return ""
}

// at is the same image in another registry, which may have a path.
func (n Name) at(registry string, opts ...name.Option) (name.Reference, error) {
	separator := ":"
	if n.Tag() == "" {
		separator = "@"
	}
	return name.ParseReference(registry+"/"+n.ref.Context().RepositoryStr()+separator+n.ref.Identifier(), opts...)
}

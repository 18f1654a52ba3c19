// Package door is how aegisd asks the servers of workspaces: a connection for
// each request, one message there and one back, each with at most one
// descriptor. It owns the messages and what they may hold, not who may ask nor
// what is done.
package door

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/xfeldman/aegisvm/api"
)

// Version of the messages. Both ends are of one release; a server that was
// replaced while aegisd runs on refuses by it.
const Version = 1

// Verb is what is asked for.
type Verb string

// The verbs. All are carried out with the rights of the owner.
const (
	// Serve serves the folder to a machine. After the answer the connection
	// carries streams: see workspace.Server.ServeStreams.
	Serve Verb = "serve"
	// Admit tells whether the owner may have the folder, and makes it if it is
	// one with a name.
	Admit Verb = "admit"
	// Remove deletes a folder with a name, and what an earlier call has left of
	// others.
	Remove Verb = "remove"
	// Forget removes what the server of a machine knew. It is gone.
	Forget Verb = "forget"
	// Tree, Read, Write and Blob are those of api.Files. The answer to Tree has
	// a descriptor with the entries as JSON, that to Read the file; the other
	// two come with what is to be written.
	Tree  Verb = "tree"
	Read  Verb = "read"
	Write Verb = "write"
	Blob  Verb = "blob"
)

var verbs = []Verb{Serve, Admit, Remove, Forget, Tree, Read, Write, Blob}

// Request is what aegisd asks for.
type Request struct {
	Version int    `json:"version"`
	Verb    Verb   `json:"verb"`
	Owner   uint32 `json:"owner"`
	// Folder is an absolute path, or the name of one that is kept.
	Folder    string `json:"folder,omitempty"`
	Machine   string `json:"machine,omitempty"`
	Path      string `json:"path,omitempty"`
	MediaType string `json:"media_type,omitempty"`
}

// Answer is how it went: a refusal where Code is not empty.
type Answer struct {
	Code  api.Code  `json:"code,omitempty"`
	Error string    `json:"error,omitempty"`
	Blob  *api.Blob `json:"blob,omitempty"`
}

// refusal is the error of an answer, or nil.
func (a Answer) refusal() error {
	if a.Code == "" {
		return nil
	}
	return api.Errorf(a.Code, "%s", a.Error)
}

var machinePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// check refuses what cannot be carried out. Paths inside of the folder are the
// matter of those who open them.
func (r Request) check() error {
	switch {
	case r.Version != Version:
		return api.Errorf(api.Unavailable, "request of version %d: this server of workspaces knows %d: restart aegisd", r.Version, Version)
	case !slices.Contains(verbs, r.Verb):
		return api.Errorf(api.InvalidArgument, "verb %.20q is not known", r.Verb)
	case (r.Verb == Serve || r.Verb == Forget) && !machinePattern.MatchString(r.Machine):
		return api.Errorf(api.InvalidArgument, "machine %.40q: expected its id", r.Machine)
	case r.Verb == Forget, r.Verb == Remove && r.Folder == "":
		return nil
	case r.Verb == Remove:
		return CheckName(r.Folder)
	case r.Folder == "":
		return api.Errorf(api.InvalidArgument, "no folder")
	}
	return CheckFolder(r.Folder)
}

// Auto is the workspace of an instance that wants one of its own.
const Auto = "auto"

var nameGrammar = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*$`)

const maxName = 63

// CheckName refuses what cannot be the name of a workspace.
func CheckName(name string) error {
	if len(name) > maxName || !nameGrammar.MatchString(name) {
		return api.Errorf(api.InvalidArgument, "workspace %q: expected an absolute path, or a name of at most %d letters, digits, '.', '_' and '-', beginning with a letter or digit", Shorten(name), maxName)
	}
	return nil
}

// CheckFolder refuses what no instance can have for a workspace, on any host.
func CheckFolder(ref string) error {
	switch {
	case ref == "":
		return nil
	case !filepath.IsAbs(ref):
		return CheckName(ref)
	case len(ref) > 4000 || strings.ContainsFunc(ref, func(r rune) bool { return r < ' ' }):
		return api.Errorf(api.InvalidArgument, "workspace %q: expected a path of at most 4000 printable characters", Shorten(ref))
	case filepath.Clean(ref) != ref:
		return api.Errorf(api.InvalidArgument, "workspace %q: expected a clean path, such as %s", Shorten(ref), Shorten(filepath.Clean(ref)))
	}
	return nil
}

// Shorten keeps a message that quotes a path fit for a line.
func Shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}

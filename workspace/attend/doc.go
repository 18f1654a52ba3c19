// Package attend answers one request for a workspace: see package door. It
// becomes the owner of the folder for good before it looks into it, and opens
// it with the owner's rights; only then does a guest get a word in. It owns the
// folders with names and what servers keep between their lives, not what a
// workspace is nor what is served.
package attend

// Package files reads and writes single files of a workspace for the host,
// with the rights of this process. It owns how a path is resolved: by the
// kernel, below the folder, following links that stay in it and no others,
// into nothing that is mounted there. What it opens is a regular file or a
// folder; nothing that a guest puts in its place makes it wait.
package files

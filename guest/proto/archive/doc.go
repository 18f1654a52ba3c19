// Package archive has the byte streams of copied files: tar archives, how a
// file or folder becomes one and how one becomes files again. Both sides of a
// copy use it, the harness and the CLI, and each takes the other for hostile:
// unpacking makes nothing outside of its folder, follows no symbolic link on
// the way, and takes only as much from an archive as is bounded here. Package
// os confines it (os.Root), so that nothing has to be checked twice.
//
// Server is the guest's half of a copy; it decides nothing about processes.
package archive

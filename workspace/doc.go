// Package workspace serves one folder of the host to one guest, as NFS
// version 3 over streams that the host has dialled; the guest's kernel mounts
// it. It owns the protocol, the handles that name files, and the journal that
// lets another server go on where one was killed. It acts with the rights of
// its process, which are the instance owner's, reaches nothing outside of the
// folder, follows no symbolic link, and trusts nothing that a guest sends.
package workspace

package workspace

import (
	"context"

	"github.com/buildbarn/go-xdr/pkg/protocols/mount"
	"github.com/buildbarn/go-xdr/pkg/protocols/rpcv2"
)

// mounter hands out the handle of the root, whatever path is asked for. Of
// version 1, which nobody uses, it has the name only.
type mounter struct{ *Server }

var _ mount.MountProgram = (*mounter)(nil)

// MountV3Mountproc3Mnt hands out the root.
func (m *mounter) MountV3Mountproc3Mnt(context.Context, string) (mount.Mountres3, error) {
	return &mount.Mountres3_MNT3_OK{Mountinfo: mount.Mountres3Ok{
		Fhandle: m.table.handle(rootID), AuthFlavors: []int32{int32(rpcv2.AUTH_SYS)},
	}}, nil
}

// MountV1MountprocMnt refuses: handles of version 1 are too short.
func (m *mounter) MountV1MountprocMnt(context.Context, string) (mount.Fhstatus, error) {
	return &mount.Fhstatus_default{Status: uint32(mount.MNT3ERR_NOTSUPP)}, nil
}

// The rest tells nothing and keeps nothing.

// MountV1MountprocNull does nothing.
func (m *mounter) MountV1MountprocNull(context.Context) error { return nil }

// MountV1MountprocDump tells of no mounts.
func (m *mounter) MountV1MountprocDump(context.Context) (*mount.Mountbody, error) { return nil, nil }

// MountV1MountprocUmnt does nothing.
func (m *mounter) MountV1MountprocUmnt(context.Context, string) error { return nil }

// MountV1MountprocUmntall does nothing.
func (m *mounter) MountV1MountprocUmntall(context.Context) error { return nil }

// MountV1MountprocExport tells of no exports.
func (m *mounter) MountV1MountprocExport(context.Context) (*mount.Exportnode, error) { return nil, nil }

// MountV3Mountproc3Null does nothing.
func (m *mounter) MountV3Mountproc3Null(context.Context) error { return nil }

// MountV3Mountproc3Dump tells of no mounts.
func (m *mounter) MountV3Mountproc3Dump(context.Context) (*mount.Mountbody, error) { return nil, nil }

// MountV3Mountproc3Umnt does nothing.
func (m *mounter) MountV3Mountproc3Umnt(context.Context, string) error { return nil }

// MountV3Mountproc3Umntall does nothing.
func (m *mounter) MountV3Mountproc3Umntall(context.Context) error { return nil }

// MountV3Mountproc3Export tells of no exports.
func (m *mounter) MountV3Mountproc3Export(context.Context) (*mount.Exportnode, error) {
	return nil, nil
}

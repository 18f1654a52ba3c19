package proto

// PortWorkspace takes the streams that carry the workspace's file system: the
// guest's kernel speaks NFS on each, as a client, and the host answers. The
// guest uses one at a time; the host keeps one in reserve.
const PortWorkspace = 1040

// WorkspacePath is where a guest has its workspace.
const WorkspacePath = "/workspace"

// Package restapi carries api.Aegis over HTTP on a unix socket: Handler is the
// server's side, Client the other. It owns the paths, the JSON shapes and the
// status codes, and nothing else; every decision is the implementation's.
//
//	POST   /v1/instances                create           201 instance, or 200: started again
//	GET    /v1/instances[?state=STATE]  list             200 [instance]
//	GET    /v1/instances/{id}           get              200 instance
//	DELETE /v1/instances/{id}           delete           200 {"status":"deleted"}
//	POST   /v1/instances/{id}/start     start            200 instance + "status"
//	POST   /v1/instances/{id}/stop      stop             200 instance + "status"
//	POST   /v1/instances/{id}/signal    {"signal":15}    200 {"status":"ok"}
//	POST   /v1/instances/{id}/attach    Upgrade          101, then descriptors
//	POST   /v1/instances/{id}/restart   restart          200 instance + "status"
//	POST   /v1/instances/{id}/enable    enable           200 instance + "status"
//	POST   /v1/instances/{id}/disable   disable          200 instance + "status"
//	POST   /v1/instances/{id}/pause     pause            200 instance + "status"
//	POST   /v1/instances/{id}/hibernate hibernate        200 instance + "status"
//	POST   /v1/instances/{id}/resume    resume           200 instance + "status"
//	PUT    /v1/instances/{id}/lease     lease            200 instance + "status"
//	DELETE /v1/instances/{id}/lease     release          200 instance + "status"
//	POST   /v1/instances/{id}/rename    {"handle":NAME}  200 instance + "status"
//	GET    /v1/instances/{id}/wait      [?until=UNTIL]   200 instance
//	POST   /v1/instances/prune          ?older_than=AGE  200 {"pruned":N,"ids":[ID]}
//	GET    /v1/instances/{id}/logs      log              200 NDJSON
//	GET    /v1/status                   status           200 status
//	GET    /v1/events                   events           200 NDJSON
//	PUT    /v1/secrets/{name}           {"value":TEXT}   200 secret
//	GET    /v1/secrets                  secrets          200 [secret]
//	DELETE /v1/secrets/{name}           delete           200 {"status":"deleted"}
//	POST   /v1/secrets/rotate-key       rotate the key   200 {"status":"rotated"}
//	POST   /v1/instances/{id}/rejoin    Upgrade          101, then a session
//	PUT    /v1/instances/{id}/secrets   {"secrets":[..]} 200 {"secret_keys":[..],"restart_required":BOOL}
//	GET    /v1/instances/{id}/network   its network      200 network
//	PUT    /v1/instances/{id}/network   network policy   200 network
//	GET    /v1/images                   images           200 [image]
//	GET    /v1/images/{ref}             one image        200 image
//	DELETE /v1/images/{ref}             remove           200 {"status":"deleted"}
//	POST   /v1/images/{ref}/tag         {"name":NAME}    200 image
//	POST   /v1/images/pull              {"ref":NAME}     200 NDJSON: progress, then {"image":...} or an error
//	POST   /v1/images/prune             prune            200 [image]
//	POST   /v1/images/load[?name=NAME]  a tar            200 [image]
//	POST   /v1/images/save              {"refs":[REF]}   200 a tar
//	POST   /v1/instances/{id}/exec                  exec       101, then descriptors; 200 NDJSON
//	GET    /v1/instances/{id}/exec                  execs      200 [exec]
//	POST   /v1/instances/{id}/exec/{exec}/attach    reattach   101, then descriptors
//	POST   /v1/instances/{id}/exec/{exec}/resize    {"rows":24,"cols":80}   200 {"status":"ok"}
//	POST   /v1/instances/{id}/exec/{exec}/signal    {"signal":15}           200 {"status":"ok"}
//	POST   /v1/instances/{id}/copy-from  {"path":PATH}  101, then descriptors
//	POST   /v1/instances/{id}/copy-to    {"path":PATH}  101, then descriptors
//	GET    /v1/workspaces               workspaces       200 [workspace]
//	DELETE /v1/workspaces/{name}        delete           200 {"status":"deleted"}
//	POST   /v1/workspaces/prune         [?dry_run=BOOL]  200 [workspace]
//	GET    /v1/openapi.json                              200 openapi.json
//	GET    /v1/instances/{id}/workspace/tree[?path=PATH]  a folder     200 [{"name","is_dir","size"}]
//	GET    /v1/instances/{id}/workspace?path=PATH         a file       200 its bytes
//	POST   /v1/instances/{id}/workspace?path=PATH         its bytes    200 {"status":"ok"}
//	POST   /v1/instances/{id}/blob                        an image     200 {"blob":NAME,"media_type":TYPE,"size":N}
//
// openapi.json beside this file says the same for machines. What older daemons
// had below tether, kits and kit-config is answered with 503. {id} is an instance's id or handle. Errors are {"error":TEXT,"code":CODE}.
//
// Attach and rejoin ask for "Upgrade: aegis-streams". After the 101 the client writes
// one byte and the server answers with one message: a byte that tells which
// streams there are (bit 0 stdin, 1 stdout, 2 stderr, 3 status, 4 session, 5 terminal)
// and the descriptors of those, in that order, as SCM_RIGHTS. The connection
// is then closed. The client's byte keeps the message out of the buffer that
// the 101 was read into, where descriptors would be lost. A session that was
// rejoined is the client's once it has written a byte to it.
//
// A file of a workspace has at most 10 MiB: 413 beyond.
//
// Copy-from and copy-to do the same: stdout or stdin is a tar archive, status
// tells how the copy went.
//
// Exec does the same, with the id of the program in the header Aegis-Exec-Id.
// Without the upgrade it answers with NDJSON: {"exec_id","started_at"}, then a
// line {"ts","stream","line","source","instance_id","exec_id"} for each line of
// output, cut where one is longer than 8 KiB, then {"exec_id","exit_code",
// "done":true}, with -1 for a program that was killed or went with its machine.
// A program that is to be detached is answered with its first line alone.
package restapi

package workspace

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/buildbarn/go-xdr/pkg/protocols/mount"
	"github.com/buildbarn/go-xdr/pkg/protocols/rpcv2"

	"github.com/xfeldman/aegisvm/workspace/nfs3"
)

// The record layer is ours because the one of go-xdr does not tell a service
// the number of a call, without which a repeated one is not known, and does
// not bound what a call can hold.

// maxRecord is how long a call may be: the longest write and its head.
const maxRecord = transfer + 4096

// lastFragment marks the last part of a record.
const lastFragment = 1 << 31

var errTooLarge = fmt.Errorf("a call of more than %d bytes", maxRecord)

// readRecord reads one call.
func readRecord(r io.Reader) ([]byte, error) {
	var record []byte
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			if err == io.EOF && record != nil {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		mark := binary.BigEndian.Uint32(head[:])
		size := int(mark &^ lastFragment)
		if size > maxRecord-len(record) || size == 0 && mark&lastFragment == 0 {
			return nil, errTooLarge
		}
		at := len(record)
		record = append(record, make([]byte, size)...)
		if _, err := io.ReadFull(r, record[at:]); err != nil {
			return nil, errors.Join(err, io.ErrUnexpectedEOF)
		}
		if mark&lastFragment != 0 {
			return record, nil
		}
	}
}

// request is a call as it came.
type request struct {
	call
	body rpcv2.CallBody
	args *bytes.Reader
	err  error // its credentials cannot be read
}

// parseRequest reads the head of a call. An error is one after which nothing
// of the connection can be trusted.
func parseRequest(record []byte) (request, error) {
	args := bytes.NewReader(record)
	var msg rpcv2.RpcMsg
	if _, err := msg.ReadFrom(args); err != nil {
		return request{}, fmt.Errorf("reading a call: %w", err)
	}
	body, ok := msg.Body.(*rpcv2.RpcMsgBody_CALL)
	if !ok {
		return request{}, errors.New("an answer instead of a call")
	}
	r := request{call: call{id: newCallID(msg.Xid, record)}, body: body.Cbody, args: args}
	r.uid, r.gid = nobody, nobody
	if r.body.Cred.Flavor == rpcv2.AUTH_SYS {
		var who rpcv2.AuthsysParms
		if _, r.err = who.ReadFrom(bytes.NewReader(r.body.Cred.Body)); r.err == nil {
			r.uid, r.gid, r.gids = who.Uid, who.Gid, who.Gids
		}
	}
	return r, nil
}

// changes tells whether a call must not be carried out twice.
func (r *request) changes() bool {
	if r.body.Prog != nfs3.NFS_PROGRAM_PROGRAM_NUMBER {
		return false
	}
	switch r.body.Proc {
	case 2, 8, 9, 10, 11, 12, 13, 14, 15: // SETATTR, and CREATE to LINK
		return true
	}
	return false
}

// answer carries out a call and returns the record that answers it.
func (s *Server) answer(ctx context.Context, r request) []byte {
	var result bytes.Buffer
	data, err := s.carryOut(withCall(ctx, r.call), r, &result)
	var reply rpcv2.ReplyBody
	switch {
	case r.body.Rpcvers != 2:
		denied := &rpcv2.RejectedReply_RPC_MISMATCH{}
		denied.MismatchInfo.Low, denied.MismatchInfo.High = 2, 2
		reply = &rpcv2.ReplyBody_MSG_DENIED{Rreply: denied}
	case r.err != nil:
		reply = &rpcv2.ReplyBody_MSG_DENIED{Rreply: &rpcv2.RejectedReply_AUTH_ERROR{Stat: rpcv2.AUTH_BADCRED}}
	case err != nil:
		reply = accepted(&rpcv2.AcceptedReplyData_default{Stat: rpcv2.GARBAGE_ARGS})
		result.Reset()
	default:
		reply = accepted(data)
	}
	msg := rpcv2.RpcMsg{Xid: r.id.xid, Body: &rpcv2.RpcMsgBody_REPLY{Rbody: reply}}
	size := msg.GetEncodedSizeBytes() + result.Len()
	out := bytes.NewBuffer(make([]byte, 0, 4+size))
	binary.Write(out, binary.BigEndian, uint32(size)|lastFragment)
	msg.WriteTo(out) // to memory
	out.Write(result.Bytes())
	return out.Bytes()
}

func accepted(data rpcv2.AcceptedReplyData) rpcv2.ReplyBody {
	return &rpcv2.ReplyBody_MSG_ACCEPTED{Areply: rpcv2.AcceptedReply{ReplyData: data}}
}

// carryOut calls the procedure; an error is one of the arguments.
func (s *Server) carryOut(ctx context.Context, r request, result *bytes.Buffer) (rpcv2.AcceptedReplyData, error) {
	if r.body.Rpcvers != 2 || r.err != nil {
		return nil, nil
	}
	size := func(n int) io.Writer {
		result.Grow(n)
		return result
	}
	switch r.body.Prog {
	case nfs3.NFS_PROGRAM_PROGRAM_NUMBER:
		return nfs3.NewNfsProgramService(&procedures{s})(ctx, r.body.Vers, r.body.Proc, io.NopCloser(r.args), size)
	case mount.MOUNT_PROGRAM_PROGRAM_NUMBER:
		return mount.NewMountProgramService(&mounter{s})(ctx, r.body.Vers, r.body.Proc, io.NopCloser(r.args), size)
	}
	return &rpcv2.AcceptedReplyData_default{Stat: rpcv2.PROG_UNAVAIL}, nil
}

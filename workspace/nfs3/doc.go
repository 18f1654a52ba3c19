// Package nfs3 has the messages of NFS version 3 (RFC 1813). It is generated
// from nfs3.x, which differs from the copy in go-xdr in two points: names and
// link targets are bytes, as those of files are, and not ASCII text; and what
// a call can hold is bounded. It opens nothing.
package nfs3

//go:generate go run github.com/buildbarn/go-xdr/cmd/xdr_compiler@v0.0.0-20261005144839-a2095890273e nfs3.x nfs3.xdr.go
//go:generate sed -i "s/has unknown value %d/has unknown value %v/" nfs3.xdr.go
//go:generate go tool -modfile=../../tools/go.mod gofumpt -w nfs3.xdr.go

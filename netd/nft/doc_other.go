//go:build !linux

// Package nft is only for Linux.
package nft

package main

import (
	"context"

	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/router"
	"github.com/xfeldman/aegisvm/router/routerbus"
)

// routerUser is who may wake instances over the bus.
const routerUser = "aegis-router"

// lateWaker lets ports be opened before there are instances: connections wait.
type lateWaker struct {
	ready chan struct{} // closed when waker is set
	waker router.Waker
}

func newLateWaker() *lateWaker { return &lateWaker{ready: make(chan struct{})} }

// set is called once.
func (l *lateWaker) set(w router.Waker) {
	l.waker = w
	close(l.ready)
}

// Wake implements router.Waker.
func (l *lateWaker) Wake(ctx context.Context, instance string, renew bool) (router.Awake, error) {
	select {
	case <-l.ready:
		return l.waker.Wake(ctx, instance, renew)
	case <-ctx.Done():
		return router.Awake{}, context.Cause(ctx)
	}
}

// wakerInterface is what the router may ask over the bus.
func wakerInterface(w router.Waker) (bus.Interface, error) {
	uids, err := bus.Users(routerUser)
	return routerbus.WakerInterface(w, uids), err
}

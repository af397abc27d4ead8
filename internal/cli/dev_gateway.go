package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/waypost-gateway/waypost/internal/app"
	"github.com/waypost-gateway/waypost/internal/config"
)

// devGateway is the gateway that the demonstration runs, in this process but
// spoken to over HTTP only.
type devGateway struct {
	// ctx ends when the demonstration is asked to end, and when the gateway
	// stops by itself; its cause tells which.
	ctx    context.Context
	base   string
	data   string
	remove func() error // of the data

	app   *app.App
	quit  context.CancelFunc
	ended chan error
}

// startDevGateway starts a gateway that delivers to this machine only.
func startDevGateway(ctx context.Context, o devOptions) (*devGateway, error) {
	listen, err := devListen(ctx, o.Listen, o.Once)
	if err != nil {
		return nil, err
	}
	data, remove, err := devData(o.Data)
	if err != nil {
		return nil, err
	}
	c := config.Default()
	c.Listen, c.Data = listen, data
	c.AdminToken = devAdminToken
	c.MetaAppSecret = []config.Secret{devAppSecret}
	c.MetaVerifyToken = devVerifyToken
	c.EgressAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c.ShutdownTimeout = devGrace
	a, err := app.New(ctx, app.Options{
		Config: c, Version: o.Version, Stdout: o.Out,
		Log: slog.New(slog.NewTextHandler(o.Err, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	g := &devGateway{base: "http://" + a.Addr(), data: data, remove: remove, app: a, ended: make(chan error, 1)}
	if o.Data == "" {
		g.data += " until the end"
	}
	g.run(ctx)
	return g, nil
}

func (g *devGateway) run(ctx context.Context) {
	watched, end := context.WithCancelCause(ctx)
	g.ctx = watched
	// The gateway outlives ctx: it is stopped last, when nobody calls it any more.
	running, quit := context.WithCancel(context.WithoutCancel(ctx))
	g.quit = quit
	go func() {
		err := g.app.Run(running)
		g.ended <- err
		end(fmt.Errorf("the gateway stopped by itself: %w", errors.Join(err, errStopped)))
	}()
}

var errStopped = errors.New("it is not running")

// stop ends the gateway in order, or out of order if that takes too long.
func (g *devGateway) stop() error {
	g.quit()
	timer := time.NewTimer(devGrace)
	defer timer.Stop()
	var err error
	select {
	case err = <-g.ended:
	case <-timer.C:
	}
	return errors.Join(err, g.app.Close(), g.remove())
}

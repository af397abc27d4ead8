package app

import (
	"context"
	"errors"
)

// runInOrder runs the parts side by side until ctx ends or one of them returns.
// Then they are stopped from the last to the first, each only once the one
// after it has returned, so that what feeds a part is gone before the part is.
func runInOrder(ctx context.Context, parts ...func(context.Context) error) error {
	type ending struct {
		part int
		err  error
	}
	endings := make(chan ending, len(parts))
	stops := make([]context.CancelFunc, len(parts))
	for i, part := range parts {
		partCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		stops[i] = stop
		go func() { endings <- ending{i, part(partCtx)} }()
	}
	var errs []error
	ended := make([]bool, len(parts))
	collect := func(e ending) {
		ended[e.part] = true
		if e.err != nil && !errors.Is(e.err, context.Canceled) {
			errs = append(errs, e.err)
		}
	}
	select {
	case <-ctx.Done():
	case e := <-endings:
		collect(e)
	}
	for i := len(parts) - 1; i >= 0; i-- {
		stops[i]()
		for !ended[i] {
			collect(<-endings)
		}
	}
	return errors.Join(errs...)
}

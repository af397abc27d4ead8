// Command waypost is the gateway and everything around it; see waypost --help.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/waypost-gateway/waypost/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(cli.Run(ctx, os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr))
}

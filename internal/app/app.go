// Package app puts the parts together: it is the only package that knows all of
// them. New opens and wires, Run runs until its context ends and then stops in
// order (no new requests, nothing left to commit, nothing in hand, lease given
// back), Close releases.
package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/waypost-gateway/waypost/internal/api"
	"github.com/waypost-gateway/waypost/internal/config"
	"github.com/waypost-gateway/waypost/internal/delivery"
	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/directory"
	"github.com/waypost-gateway/waypost/internal/egress"
	"github.com/waypost-gateway/waypost/internal/httpserver"
	"github.com/waypost-gateway/waypost/internal/ingest"
	"github.com/waypost-gateway/waypost/internal/metrics"
	"github.com/waypost-gateway/waypost/internal/node"
	"github.com/waypost-gateway/waypost/internal/secret"
	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Options of an App.
type Options struct {
	Config  config.Config
	Log     *slog.Logger
	Stdout  io.Writer // where a newly made admin token is shown, once
	Version string
}

// App is a whole gateway.
type App struct {
	log       *slog.Logger
	store     store.Store
	node      *node.Node
	directory *directory.Directory
	engine    *delivery.Engine
	committer *ingest.Committer
	server    *httpserver.Server
}

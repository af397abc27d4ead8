package app

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/config"
	"github.com/waypost-gateway/waypost/internal/egress"
	"github.com/waypost-gateway/waypost/internal/node"
	"github.com/waypost-gateway/waypost/internal/retention"
	"github.com/waypost-gateway/waypost/internal/secret"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/postgres"
	"github.com/waypost-gateway/waypost/internal/store/sqlite"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// openKeys gives the keys that secrets are sealed with, the present one first:
// the configured ones, or the one in the data directory, made on first start.
func openKeys(c *config.Config) (keyring, error) {
	if c.SecretKey != "" {
		keys, err := secret.ParseKeys(c.SecretKey.Reveal())
		if err != nil {
			return keyring{}, fmt.Errorf("WAYPOST_SECRET_KEY: %w", err)
		}
		return keyring{keys: keys}, nil
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return keyring{}, fmt.Errorf("make data directory: %w", err)
	}
	file := filepath.Join(c.Data, "secret.key")
	_, err := os.Stat(file)
	missing := errors.Is(err, fs.ErrNotExist)
	key, err := secret.LoadOrMakeKey(file)
	if err != nil {
		return keyring{}, err
	}
	return keyring{keys: []secret.Key{key}, file: file, made: missing}, nil
}

// keyring is the keys and where they come from.
type keyring struct {
	keys []secret.Key
	file string // empty: from WAYPOST_SECRET_KEY
	made bool   // the file was made just now
}

// wrong says that the keys are not the database's. A key that was made for nothing
// is not left behind, where it would be taken for the right one.
func (k keyring) wrong(err error) error {
	switch {
	case k.made:
		return errors.Join(fmt.Errorf("this database was written with a secret key that is not here: "+
			"WAYPOST_SECRET_KEY is not set and there is no %s; give it the key that the other nodes have, or that was kept with the backup", k.file),
			os.Remove(k.file))
	case k.file != "":
		return fmt.Errorf("%s is not the key that this database was written with; all nodes need the same: %w", k.file, err)
	}
	return fmt.Errorf("WAYPOST_SECRET_KEY is not the key that this database was written with; all nodes need the same: %w", err)
}

// deriveKeys makes of each key another for one purpose, so that no key has two.
func deriveKeys(keys []secret.Key, purpose string) ([][]byte, error) {
	derived := make([][]byte, len(keys))
	for i, key := range keys {
		var err error
		if derived[i], err = hkdf.Key(sha256.New, key[:], nil, "waypost "+purpose, sha256.Size); err != nil {
			return nil, fmt.Errorf("derive key: %w", err)
		}
	}
	return derived, nil
}

func openStore(ctx context.Context, c *config.Config, box *secret.Box, log *slog.Logger) (store.Store, error) {
	// On an error the interface itself must be nil, not hold a nil store.
	if strings.HasPrefix(c.Database, "postgres://") || strings.HasPrefix(c.Database, "postgresql://") {
		s, err := postgres.Open(ctx, postgres.Options{URL: c.Database, Sealer: box, Log: log})
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	s, err := sqlite.Open(ctx, sqlite.Options{Dir: c.Data, Sealer: box, Log: log})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func openRetention(c *config.Config, s store.Retention, log *slog.Logger) *retention.Keeper {
	return retention.New(retention.Options{
		Store: s,
		Clocks: retention.Clocks{
			Bodies: time.Duration(c.RetainBodies), Attempts: time.Duration(c.RetainAttempts), Events: time.Duration(c.RetainEvents),
			Dedupe: time.Duration(c.RetainDedupe), Audit: time.Duration(c.RetainAudit),
		},
		DiskLimit: int64(c.DiskLimit),
		Log:       log,
	})
}

// keyCheck is the name of the value that tells whether the key is the one that
// this installation's secrets are sealed with.
const keyCheck = "key_check"

// checkKey refuses a key that can't open what is in the store, before anything is
// written with it: other nodes would not be able to read that.
func checkKey(ctx context.Context, s store.Settings, box *secret.Box, ring keyring) error {
	kept, err := s.Value(ctx, keyCheck)
	if err != nil {
		return err
	}
	if kept != "" {
		sealed, err := hex.DecodeString(kept)
		if err == nil {
			_, err = box.Open(sealed, keyCheck)
		}
		if err != nil {
			return ring.wrong(err)
		}
		return nil
	}
	sealed, err := box.Seal([]byte(keyCheck), keyCheck)
	if err != nil {
		return err
	}
	return s.SetValue(ctx, keyCheck, hex.EncodeToString(sealed))
}

// adminTokenDigest is the name of the value that keeps the digest of an admin
// token we made ourselves.
const adminTokenDigest = "admin_token_sha256"

// adminDigest gives the digest of the admin token: of the configured one, else
// of the one made on the first start, which is shown then and never again.
func adminDigest(ctx context.Context, c *config.Config, s store.Settings, stdout io.Writer) ([32]byte, error) {
	if c.AdminToken != "" {
		return secret.Digest(c.AdminToken.Reveal()), nil
	}
	kept, err := s.Value(ctx, adminTokenDigest)
	if err != nil {
		return [32]byte{}, err
	}
	if digest, err := hex.DecodeString(kept); err == nil && len(digest) == 32 {
		return [32]byte(digest), nil
	}
	token := secret.NewToken("wpa_")
	digest := secret.Digest(token)
	if err := s.SetValue(ctx, adminTokenDigest, hex.EncodeToString(digest[:])); err != nil {
		return [32]byte{}, err
	}
	fmt.Fprintf(stdout, "Admin token, shown this once: %s\nTo choose one yourself, set WAYPOST_ADMIN_TOKEN.\n", token)
	return digest, nil
}

// putConfiguredSources keeps the sources named "default" as the configuration
// has them.
func putConfiguredSources(ctx context.Context, c *config.Config, s store.Settings, n *node.Node) error {
	var sources []waypost.Source
	if len(c.MetaAppSecret) > 0 || c.MetaVerifyToken != "" {
		sources = append(sources, waypost.Source{Kind: waypost.SourceMeta, Name: "default", Secrets: c.MetaAppSecret, VerifyToken: c.MetaVerifyToken})
	}
	if c.OnPremToken != "" {
		sources = append(sources, waypost.Source{Kind: waypost.SourceOnPrem, Name: "default", Secrets: []waypost.Secret{c.OnPremToken}})
	}
	for _, source := range sources {
		source.ID = waypost.SourceID(n.NextID())
		if err := s.PutSource(ctx, source); err != nil {
			return fmt.Errorf("keep the configured %s source: %w", source.Kind, err)
		}
	}
	return nil
}

func openEgress(c *config.Config, version string) (*egress.Client, error) {
	options := egress.Options{Allow: c.EgressAllow, LocalAddr: c.EgressLocalAddr, UserAgent: "Waypost/" + version}
	if c.EgressProxy != "" {
		proxy, err := url.Parse(c.EgressProxy.Reveal())
		if err != nil {
			return nil, errors.New("WAYPOST_EGRESS_PROXY is not a URL")
		}
		options.Proxy = proxy
	}
	if c.EgressCA != "" {
		roots, err := egress.LoadRootCAs(c.EgressCA)
		if err != nil {
			return nil, fmt.Errorf("WAYPOST_EGRESS_CA: %w", err)
		}
		options.RootCAs = roots
	}
	return egress.New(options)
}

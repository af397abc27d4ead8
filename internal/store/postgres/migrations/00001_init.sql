-- +goose Up

-- Times are unix milliseconds, 0 for none. Ids ascend with time, so events and
-- what hangs on them are appended at the right edge of their trees.

CREATE TABLE events (
	id              BIGINT  PRIMARY KEY,
	type            TEXT    NOT NULL,
	state           TEXT    NOT NULL,
	tenant_id       BIGINT  NOT NULL,
	number_id       BIGINT  NOT NULL,
	source_id       BIGINT  NOT NULL,
	phone_number_id TEXT    NOT NULL,
	waba_id         TEXT    NOT NULL,
	conversation    BIGINT  NOT NULL,
	form            TEXT    NOT NULL,
	occurred_at     BIGINT  NOT NULL,
	body            BYTEA   NOT NULL
);
-- Bodies are kept whole and uncompressed: they are written once, read whole, and
-- compressing them would cost more than it saves.
ALTER TABLE events ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX events_tenant ON events (tenant_id, id);

CREATE TABLE dedupe (
	key      BYTEA   PRIMARY KEY,
	event_id BIGINT  NOT NULL
);

CREATE TABLE duplicates (
	event_id BIGINT  NOT NULL,
	at       BIGINT  NOT NULL
);
CREATE INDEX duplicates_event ON duplicates (event_id);

-- What is owed. Rows in a node's hand are in no secondary index, so that an event
-- that is accepted and delivered at once costs one insert and one delete.
CREATE TABLE deliveries (
	event_id       BIGINT  NOT NULL,
	endpoint_id    BIGINT  NOT NULL,
	node_id        BIGINT  NOT NULL, -- 0: in nobody's hand
	due            BIGINT  NOT NULL,
	attempts       BIGINT  NOT NULL,
	step           BIGINT  NOT NULL,
	after_endpoint BIGINT  NOT NULL, -- 0: waits for no other delivery of the event
	PRIMARY KEY (event_id, endpoint_id)
);
-- Rows come and go all the time; cleaning up must keep pace, or the index of
-- what is due fills with dead entries.
ALTER TABLE deliveries SET (
	autovacuum_vacuum_scale_factor = 0.02,
	autovacuum_vacuum_threshold = 2000,
	autovacuum_vacuum_insert_scale_factor = 0.2,
	autovacuum_vacuum_cost_delay = 0,
	autovacuum_analyze_scale_factor = 0.1
);
CREATE INDEX deliveries_due ON deliveries (endpoint_id, due, event_id) WHERE node_id = 0 AND after_endpoint = 0;
CREATE INDEX deliveries_waiting ON deliveries (endpoint_id, event_id) WHERE after_endpoint <> 0;

CREATE TABLE attempts (
	event_id    BIGINT  NOT NULL,
	endpoint_id BIGINT  NOT NULL,
	n           BIGINT  NOT NULL,
	at          BIGINT  NOT NULL,
	duration    BIGINT  NOT NULL, -- nanoseconds
	status      BIGINT  NOT NULL,
	outcome     TEXT    NOT NULL,
	reason      TEXT    NOT NULL,
	detail      BYTEA   NOT NULL, -- JSON
	PRIMARY KEY (event_id, endpoint_id, n)
);

CREATE TABLE exhausted (
	endpoint_id BIGINT  NOT NULL,
	event_id    BIGINT  NOT NULL,
	at          BIGINT  NOT NULL,
	reason      TEXT    NOT NULL,
	attempts    BIGINT  NOT NULL,
	PRIMARY KEY (endpoint_id, event_id)
);
CREATE INDEX exhausted_event ON exhausted (event_id, endpoint_id);

CREATE TABLE nodes (
	id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- never used again
	slot        BIGINT  NOT NULL UNIQUE,
	lease_until BIGINT  NOT NULL,
	joined_at   BIGINT  NOT NULL
);

-- Settings. "sealed" holds all that is secret in a row, encrypted.

CREATE TABLE settings_revision (
	id       BIGINT  PRIMARY KEY CHECK (id = 1),
	revision BIGINT  NOT NULL
);
INSERT INTO settings_revision (id, revision) VALUES (1, 0);

CREATE TABLE facts (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
);

CREATE TABLE tenants (
	id         BIGINT  PRIMARY KEY,
	name       TEXT    NOT NULL,
	reference  TEXT    NOT NULL,
	sealed     BYTEA   NOT NULL,
	created_at BIGINT  NOT NULL,
	revision   BIGINT  NOT NULL
);
CREATE INDEX tenants_revision ON tenants (revision);

CREATE TABLE numbers (
	id              BIGINT  PRIMARY KEY,
	tenant_id       BIGINT  NOT NULL,
	phone           TEXT    NOT NULL,
	phone_number_id TEXT    NOT NULL,
	waba_id         TEXT    NOT NULL,
	reference       TEXT    NOT NULL,
	sealed          BYTEA   NOT NULL,
	lifecycle       TEXT    NOT NULL,
	daily_limit     BIGINT  NOT NULL,
	created_at      BIGINT  NOT NULL,
	revision        BIGINT  NOT NULL
);
CREATE UNIQUE INDEX numbers_phone_number ON numbers (phone_number_id) WHERE phone_number_id <> '';
CREATE INDEX numbers_revision ON numbers (revision);

CREATE TABLE sources (
	id         BIGINT  PRIMARY KEY,
	name       TEXT    NOT NULL,
	kind       TEXT    NOT NULL,
	tenant_id  BIGINT  NOT NULL,
	number_id  BIGINT  NOT NULL,
	sealed     BYTEA   NOT NULL,
	created_at BIGINT  NOT NULL,
	revision   BIGINT  NOT NULL,
	UNIQUE (kind, name)
);

CREATE TABLE keys (
	id         BIGINT  PRIMARY KEY,
	dialect    TEXT    NOT NULL,
	tenant_id  BIGINT  NOT NULL,
	number_id  BIGINT  NOT NULL,
	digest     BYTEA   NOT NULL,
	account    TEXT    NOT NULL,
	created_at BIGINT  NOT NULL,
	expires_at BIGINT  NOT NULL
);
CREATE UNIQUE INDEX keys_digest ON keys (dialect, digest);
CREATE UNIQUE INDEX keys_account ON keys (dialect, account) WHERE account <> '';
CREATE INDEX keys_tenant ON keys (tenant_id);

CREATE TABLE endpoints (
	id           BIGINT  PRIMARY KEY,
	tenant_id    BIGINT  NOT NULL,
	number_id    BIGINT  NOT NULL,
	waba_id      TEXT    NOT NULL,
	dialect      TEXT    NOT NULL,
	slot         TEXT    NOT NULL,
	url          TEXT    NOT NULL,
	events       TEXT    NOT NULL, -- JSON
	policy       TEXT    NOT NULL, -- JSON
	sealed       BYTEA   NOT NULL,
	state        TEXT    NOT NULL,
	state_reason TEXT    NOT NULL,
	created_at   BIGINT  NOT NULL,
	updated_at   BIGINT  NOT NULL,
	deleted_at   BIGINT  NOT NULL,
	revision     BIGINT  NOT NULL
);
CREATE UNIQUE INDEX endpoints_place ON endpoints (tenant_id, number_id, waba_id, dialect, slot)
	WHERE slot <> '' AND deleted_at = 0;
CREATE INDEX endpoints_revision ON endpoints (revision);

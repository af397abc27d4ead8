-- +goose Up

-- Times are unix milliseconds, 0 for none. Ids ascend with time, so events and
-- what hangs on them are appended at the right edge of their trees.

CREATE TABLE events (
	id              INTEGER PRIMARY KEY,
	type            TEXT    NOT NULL,
	state           TEXT    NOT NULL,
	tenant_id       INTEGER NOT NULL,
	number_id       INTEGER NOT NULL,
	source_id       INTEGER NOT NULL,
	phone_number_id TEXT    NOT NULL,
	waba_id         TEXT    NOT NULL,
	conversation    INTEGER NOT NULL,
	form            TEXT    NOT NULL,
	occurred_at     INTEGER NOT NULL,
	body            BLOB    NOT NULL -- last, so that a listing need not read past it
);
CREATE INDEX events_tenant ON events (tenant_id); -- each entry ends with the row's id

CREATE TABLE dedupe (
	key      BLOB    PRIMARY KEY,
	event_id INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE duplicates (
	event_id INTEGER NOT NULL,
	at       INTEGER NOT NULL
);
CREATE INDEX duplicates_event ON duplicates (event_id);

-- What is owed. Rows in a node's hand are in no secondary index, so that an event
-- that is accepted and delivered at once costs one insert and one delete.
CREATE TABLE deliveries (
	event_id       INTEGER NOT NULL,
	endpoint_id    INTEGER NOT NULL,
	node_id        INTEGER NOT NULL, -- 0: in nobody's hand
	due            INTEGER NOT NULL,
	attempts       INTEGER NOT NULL,
	step           INTEGER NOT NULL,
	after_endpoint INTEGER NOT NULL, -- 0: waits for no other delivery of the event
	PRIMARY KEY (event_id, endpoint_id)
) WITHOUT ROWID;
CREATE INDEX deliveries_due ON deliveries (endpoint_id, due, event_id) WHERE node_id = 0 AND after_endpoint = 0;
CREATE INDEX deliveries_waiting ON deliveries (endpoint_id, event_id) WHERE after_endpoint <> 0;

CREATE TABLE attempts (
	event_id    INTEGER NOT NULL,
	endpoint_id INTEGER NOT NULL,
	n           INTEGER NOT NULL,
	at          INTEGER NOT NULL,
	duration    INTEGER NOT NULL, -- nanoseconds
	status      INTEGER NOT NULL,
	outcome     TEXT    NOT NULL,
	reason      TEXT    NOT NULL,
	detail      BLOB    NOT NULL, -- JSON
	PRIMARY KEY (event_id, endpoint_id, n)
) WITHOUT ROWID;

CREATE TABLE exhausted (
	endpoint_id INTEGER NOT NULL,
	event_id    INTEGER NOT NULL,
	at          INTEGER NOT NULL,
	reason      TEXT    NOT NULL,
	attempts    INTEGER NOT NULL,
	PRIMARY KEY (endpoint_id, event_id)
) WITHOUT ROWID;
CREATE INDEX exhausted_event ON exhausted (event_id, endpoint_id);

CREATE TABLE nodes (
	id          INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again
	slot        INTEGER NOT NULL UNIQUE,
	lease_until INTEGER NOT NULL,
	joined_at   INTEGER NOT NULL
);

-- Settings. "sealed" holds all that is secret in a row, encrypted.

CREATE TABLE settings_revision (
	id       INTEGER PRIMARY KEY CHECK (id = 1),
	revision INTEGER NOT NULL
);
INSERT INTO settings_revision (id, revision) VALUES (1, 0);

CREATE TABLE facts (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE tenants (
	id         INTEGER PRIMARY KEY,
	name       TEXT    NOT NULL,
	reference  TEXT    NOT NULL,
	sealed     BLOB    NOT NULL,
	created_at INTEGER NOT NULL,
	revision   INTEGER NOT NULL
);
CREATE INDEX tenants_revision ON tenants (revision);

CREATE TABLE numbers (
	id              INTEGER PRIMARY KEY,
	tenant_id       INTEGER NOT NULL,
	phone           TEXT    NOT NULL,
	phone_number_id TEXT    NOT NULL,
	waba_id         TEXT    NOT NULL,
	reference       TEXT    NOT NULL,
	sealed          BLOB    NOT NULL,
	lifecycle       TEXT    NOT NULL,
	daily_limit     INTEGER NOT NULL,
	created_at      INTEGER NOT NULL,
	revision        INTEGER NOT NULL
);
CREATE UNIQUE INDEX numbers_phone_number ON numbers (phone_number_id) WHERE phone_number_id <> '';
CREATE INDEX numbers_revision ON numbers (revision);

CREATE TABLE sources (
	id         INTEGER PRIMARY KEY,
	name       TEXT    NOT NULL,
	kind       TEXT    NOT NULL,
	tenant_id  INTEGER NOT NULL,
	number_id  INTEGER NOT NULL,
	sealed     BLOB    NOT NULL,
	created_at INTEGER NOT NULL,
	revision   INTEGER NOT NULL,
	UNIQUE (kind, name)
);

CREATE TABLE keys (
	id         INTEGER PRIMARY KEY,
	dialect    TEXT    NOT NULL,
	tenant_id  INTEGER NOT NULL,
	number_id  INTEGER NOT NULL,
	digest     BLOB    NOT NULL,
	account    TEXT    NOT NULL,
	created_at INTEGER NOT NULL,
	expires_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX keys_digest ON keys (dialect, digest);
CREATE UNIQUE INDEX keys_account ON keys (dialect, account) WHERE account <> '';
CREATE INDEX keys_tenant ON keys (tenant_id);

CREATE TABLE endpoints (
	id           INTEGER PRIMARY KEY,
	tenant_id    INTEGER NOT NULL,
	number_id    INTEGER NOT NULL,
	waba_id      TEXT    NOT NULL,
	dialect      TEXT    NOT NULL,
	slot         TEXT    NOT NULL,
	url          TEXT    NOT NULL,
	events       TEXT    NOT NULL, -- JSON
	policy       TEXT    NOT NULL, -- JSON
	sealed       BLOB    NOT NULL,
	state        TEXT    NOT NULL,
	state_reason TEXT    NOT NULL,
	created_at   INTEGER NOT NULL,
	updated_at   INTEGER NOT NULL,
	deleted_at   INTEGER NOT NULL,
	revision     INTEGER NOT NULL
);
CREATE UNIQUE INDEX endpoints_place ON endpoints (tenant_id, number_id, waba_id, dialect, slot)
	WHERE slot <> '' AND deleted_at = 0;
CREATE INDEX endpoints_revision ON endpoints (revision);

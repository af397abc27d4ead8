-- +goose NO TRANSACTION
-- +goose Up

-- Events and attempts become tables of partitions by event id. The tables there
-- are become the first partition, as they are: nothing is copied, and but for two
-- moments everything goes on meanwhile, with this version's statements and with
-- those of the version before. Each step may be run again after a failure, and
-- does nothing where it has been done.

-- How far each clock of retention has come: every event up to and with that id
-- has been dealt with, or is in spared.
CREATE TABLE IF NOT EXISTS retention (
	id       BIGINT PRIMARY KEY CHECK (id = 1),
	bodies   BIGINT NOT NULL,
	attempts BIGINT NOT NULL,
	events   BIGINT NOT NULL
);
INSERT INTO retention (id, bodies, attempts, events) VALUES (1, 0, 0, 0) ON CONFLICT DO NOTHING;

-- Events that a clock passed over because they were owed.
CREATE TABLE IF NOT EXISTS spared (
	event_id BIGINT PRIMARY KEY
);

-- Rows go from here at the rate at which they come.
ALTER TABLE dedupe SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.2);

-- The first partition ends at a midnight (UTC) that is at least a day away, later
-- than any id there is. The database shall know that of the rows there are, so
-- that attaching them takes no look at them.
-- +goose StatementBegin
DO $$
DECLARE
	day   CONSTANT bigint := 86400000::bigint << 22; -- of ids, which are milliseconds << 22
	epoch CONSTANT bigint := 1704067200000;          -- that ids count from: 2024-01-01
	newest bigint;
	boundary bigint;
BEGIN
	IF (SELECT relkind FROM pg_class WHERE oid = 'events'::regclass) = 'p'
		OR EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'events'::regclass AND conname = 'events_first_range') THEN
		RETURN;
	END IF;
	FOR try IN 1..600 LOOP
		BEGIN
			SET LOCAL lock_timeout = '300ms'; -- all others queue behind a lock that is waited for
			LOCK TABLE events, attempts IN ACCESS EXCLUSIVE MODE;
			EXIT;
		EXCEPTION WHEN lock_not_available THEN
			IF try = 600 THEN RAISE; END IF;
			PERFORM pg_sleep(0.2);
		END;
	END LOOP;
	SELECT GREATEST(
		(SELECT max(id) FROM events),
		(SELECT max(event_id) FROM attempts),
		((EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint - epoch) << 22
	) INTO newest;
	boundary := (newest / day + 2) * day;
	EXECUTE format('ALTER TABLE events ADD CONSTRAINT events_first_range CHECK (id < %s) NOT VALID', boundary);
	EXECUTE format('ALTER TABLE attempts ADD CONSTRAINT attempts_first_range CHECK (event_id < %s) NOT VALID', boundary);
END $$;
-- +goose StatementEnd

-- This reads all rows, while everything goes on.
-- +goose StatementBegin
DO $$
DECLARE
	c record;
BEGIN
	FOR c IN SELECT conrelid::regclass AS name, conname FROM pg_constraint
		WHERE conrelid IN ('events'::regclass, 'attempts'::regclass)
			AND conname IN ('events_first_range', 'attempts_first_range') AND NOT convalidated
	LOOP
		EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', c.name, c.conname);
	END LOOP;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
DECLARE
	boundary text;
BEGIN
	IF (SELECT relkind FROM pg_class WHERE oid = 'events'::regclass) = 'p' THEN
		RETURN;
	END IF;
	FOR try IN 1..600 LOOP
		BEGIN
			SET LOCAL lock_timeout = '300ms';
			LOCK TABLE events, attempts IN ACCESS EXCLUSIVE MODE;
			EXIT;
		EXCEPTION WHEN lock_not_available THEN
			IF try = 600 THEN RAISE; END IF;
			PERFORM pg_sleep(0.2);
		END;
	END LOOP;
	SELECT substring(pg_get_constraintdef(oid) FROM '[0-9]{6,}') INTO boundary
		FROM pg_constraint WHERE conrelid = 'events'::regclass AND conname = 'events_first_range';

	ALTER TABLE events RENAME TO events_first;
	ALTER INDEX events_pkey RENAME TO events_first_pkey;
	ALTER INDEX events_tenant RENAME TO events_first_tenant;
	CREATE TABLE events (LIKE events_first INCLUDING STORAGE, PRIMARY KEY (id)) PARTITION BY RANGE (id);
	CREATE INDEX events_tenant ON events (tenant_id, id);
	EXECUTE format('ALTER TABLE events ATTACH PARTITION events_first FOR VALUES FROM (MINVALUE) TO (%s)', boundary);
	CREATE TABLE events_default PARTITION OF events DEFAULT;

	ALTER TABLE attempts RENAME TO attempts_first;
	ALTER INDEX attempts_pkey RENAME TO attempts_first_pkey;
	CREATE TABLE attempts (LIKE attempts_first INCLUDING STORAGE, PRIMARY KEY (event_id, endpoint_id, n)) PARTITION BY RANGE (event_id);
	EXECUTE format('ALTER TABLE attempts ATTACH PARTITION attempts_first FOR VALUES FROM (MINVALUE) TO (%s)', boundary);
	CREATE TABLE attempts_default PARTITION OF attempts DEFAULT;

	-- As constraints of the partition they say no more than its bounds.
	ALTER TABLE events_first DROP CONSTRAINT events_first_range;
	ALTER TABLE attempts_first DROP CONSTRAINT attempts_first_range;
END $$;
-- +goose StatementEnd

-- +goose Up

-- For what comes from a SQLite database, which has this table: dedupe keys on
-- their way to the table dedupe. They are taken there when the store is opened.
CREATE TABLE IF NOT EXISTS dedupe_recent (
	key      BYTEA  NOT NULL,
	event_id BIGINT NOT NULL
);

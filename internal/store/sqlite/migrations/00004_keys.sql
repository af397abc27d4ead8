-- +goose Up

-- Dedupe keys as they come, on their way to the table dedupe. See keys.go.
CREATE TABLE dedupe_recent (
	key      BLOB    NOT NULL,
	event_id INTEGER NOT NULL
);

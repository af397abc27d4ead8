-- +goose Up

-- How far each clock of retention has come: every event up to and with that id
-- has been dealt with, or is in spared.
CREATE TABLE retention (
	id       INTEGER PRIMARY KEY CHECK (id = 1),
	bodies   INTEGER NOT NULL,
	attempts INTEGER NOT NULL,
	events   INTEGER NOT NULL
);
INSERT INTO retention (id, bodies, attempts, events) VALUES (1, 0, 0, 0);

-- Events that a clock passed over because they were owed.
CREATE TABLE spared (
	event_id INTEGER PRIMARY KEY
);

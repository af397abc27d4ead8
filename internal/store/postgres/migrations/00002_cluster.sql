-- +goose Up

-- Every change here leaves the statements of the version before valid, so that
-- nodes of both versions work side by side.

ALTER TABLE nodes ADD COLUMN seen BIGINT  NOT NULL DEFAULT -1; -- -1: written by a version that does not tell

ALTER TABLE endpoints ADD COLUMN in_flight   BIGINT  NOT NULL DEFAULT 0;  -- 0: the installation's default
ALTER TABLE endpoints ADD COLUMN drain       TEXT    NOT NULL DEFAULT ''; -- '': oldest first
ALTER TABLE endpoints ADD COLUMN skip_before BIGINT  NOT NULL DEFAULT 0;  -- an event id

-- For draining newest first, and for counting and dropping by age. due is there so
-- that what is not due yet is passed over without a look at its row. There are no
-- nulls: where they would stand is an order that no other index has, or the planner
-- might walk the primary key, past everything that is owed to others.
CREATE INDEX deliveries_free ON deliveries (endpoint_id, event_id DESC NULLS LAST, due)
	WHERE node_id = 0 AND after_endpoint = 0;

-- For taking over from a node, and for counting what is owed. It holds as many rows
-- as the nodes hold in memory, so it stays small however much is owed.
CREATE INDEX deliveries_hand ON deliveries (node_id, endpoint_id, event_id) WHERE node_id <> 0;

CREATE TABLE audit (
	id        BIGINT  PRIMARY KEY, -- tells the time
	tenant_id BIGINT  NOT NULL,    -- 0: concerns the installation
	actor     TEXT    NOT NULL,
	action    TEXT    NOT NULL,
	target    TEXT    NOT NULL,
	detail    TEXT    NOT NULL     -- JSON
);
CREATE INDEX audit_tenant ON audit (tenant_id, id);

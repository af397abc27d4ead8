-- name: join
INSERT INTO nodes (slot, lease_until, joined_at) VALUES ($1, $2, $3) RETURNING id

-- name: slots
SELECT slot FROM nodes ORDER BY slot

-- name: floor
SELECT COALESCE(MAX(id), 0) FROM events

-- name: renew
UPDATE nodes SET lease_until = $2 WHERE id = $1 AND lease_until > $3 RETURNING id

-- name: leave
DELETE FROM nodes WHERE id = $1 RETURNING id

-- name: expire
DELETE FROM nodes WHERE lease_until <= $1 RETURNING id

-- name: release node
UPDATE deliveries SET node_id = 0, due = CASE WHEN due = 0 OR due > $2 THEN $2 ELSE due END
WHERE node_id = $1

-- name: due endpoints
WITH RECURSIVE lane(id) AS (
	SELECT (SELECT MIN(endpoint_id) FROM deliveries WHERE node_id = 0 AND after_endpoint = 0)
	UNION ALL
	SELECT (SELECT MIN(endpoint_id) FROM deliveries
	        WHERE node_id = 0 AND after_endpoint = 0 AND endpoint_id > lane.id)
	FROM lane WHERE lane.id IS NOT NULL
)
SELECT id, (SELECT MIN(due) FROM deliveries
            WHERE node_id = 0 AND after_endpoint = 0 AND endpoint_id = lane.id)
FROM lane WHERE id IS NOT NULL

-- name: retry in hand
UPDATE deliveries SET due = 0 WHERE event_id = $1 AND endpoint_id = $2

-- name: retry free
UPDATE deliveries SET due = $3, after_endpoint = 0 WHERE event_id = $1 AND endpoint_id = $2

-- name: unexhaust
DELETE FROM exhausted WHERE endpoint_id = $1 AND event_id = $2 RETURNING attempts

-- name: last attempt
SELECT MAX(n) FROM attempts WHERE event_id = $1 AND endpoint_id = $2

-- name: owe
INSERT INTO deliveries (event_id, endpoint_id, node_id, due, attempts, step, after_endpoint)
VALUES ($1, $2, 0, $3, $4, 0, $5)
ON CONFLICT (event_id, endpoint_id) DO NOTHING

-- name: reroute
UPDATE events SET state = $2, tenant_id = $3, number_id = $4 WHERE id = $1

-- name: droppable
SELECT event_id FROM deliveries
WHERE endpoint_id = $1 AND node_id = 0 AND after_endpoint = 0 AND event_id < $2 LIMIT $3

-- name: drop
DELETE FROM deliveries WHERE event_id = $1 AND endpoint_id = $2 RETURNING attempts

-- name: drop exhausted
INSERT INTO exhausted (endpoint_id, event_id, at, reason, attempts) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (endpoint_id, event_id)
DO UPDATE SET at = excluded.at, reason = excluded.reason, attempts = excluded.attempts

-- name: waiting for
SELECT endpoint_id FROM deliveries WHERE event_id = $1 AND after_endpoint = $2

-- name: event
SELECT id, type, state, tenant_id, number_id, source_id, phone_number_id, waba_id, conversation, form, occurred_at, body,
	(SELECT COUNT(*) FROM duplicates WHERE event_id = $1) FROM events WHERE id = $1

-- name: events of a tenant
SELECT id, type, state, tenant_id, number_id, source_id, phone_number_id, waba_id, conversation, form, occurred_at FROM events WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3

-- name: attempts of an event
SELECT event_id, endpoint_id, n, at, duration, status, outcome, reason, detail
FROM attempts WHERE event_id = $1 ORDER BY endpoint_id, n

-- name: backlog
SELECT COUNT(*) FROM deliveries WHERE endpoint_id = $1

-- name: revise
UPDATE settings_revision SET revision = revision + 1 RETURNING revision

-- name: revision
SELECT revision FROM settings_revision

-- name: fact
SELECT value FROM facts WHERE name = $1

-- name: set fact
INSERT INTO facts (name, value) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET value = excluded.value

-- name: tenants
SELECT id, name, reference, sealed, created_at FROM tenants WHERE revision > $1 ORDER BY id

-- name: create tenant
INSERT INTO tenants (id, name, reference, sealed, created_at, revision) VALUES ($1, $2, $3, $4, $5, $6)

-- name: update tenant
UPDATE tenants SET name = $2, reference = $3, sealed = $4, revision = $5 WHERE id = $1

-- name: numbers
SELECT id, tenant_id, phone, phone_number_id, waba_id, reference, sealed, lifecycle, daily_limit, created_at FROM numbers WHERE revision > $1 ORDER BY id

-- name: create number
INSERT INTO numbers (id, tenant_id, phone, phone_number_id, waba_id, reference, sealed, lifecycle, daily_limit, created_at, revision)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: update number
UPDATE numbers SET tenant_id = $2, phone = $3, phone_number_id = $4, waba_id = $5, reference = $6,
	sealed = $7, lifecycle = $8, daily_limit = $9, revision = $10
WHERE id = $1

-- name: sources
SELECT id, name, kind, tenant_id, number_id, sealed, created_at FROM sources WHERE revision > $1 ORDER BY id

-- name: put source
INSERT INTO sources (id, name, kind, tenant_id, number_id, sealed, created_at, revision)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (kind, name) DO UPDATE SET tenant_id = excluded.tenant_id,
	number_id = excluded.number_id, sealed = excluded.sealed, revision = excluded.revision

-- name: revoke keys
DELETE FROM keys WHERE dialect = $1 AND number_id = $2 AND tenant_id = $3

-- name: create key
INSERT INTO keys (id, dialect, tenant_id, number_id, digest, account, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: key
SELECT id, dialect, tenant_id, number_id, digest, account, created_at, expires_at FROM keys WHERE dialect = $1 AND digest = $2

-- name: endpoints
SELECT id, tenant_id, number_id, waba_id, dialect, slot, url, events, policy, sealed,
	state, state_reason, created_at, updated_at, deleted_at FROM endpoints WHERE revision > $1
AND (deleted_at = 0 OR id IN (SELECT endpoint_id FROM deliveries)) ORDER BY id

-- name: create endpoint
INSERT INTO endpoints (id, tenant_id, number_id, waba_id, dialect, slot, url, events, policy, sealed,
	state, state_reason, created_at, updated_at, deleted_at, revision)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)

-- name: update endpoint
UPDATE endpoints SET tenant_id = $2, number_id = $3, waba_id = $4, dialect = $5, slot = $6, url = $7, events = $8,
	policy = $9, sealed = $10, state = $11, state_reason = $12, updated_at = $13, deleted_at = $14, revision = $15
WHERE id = $1

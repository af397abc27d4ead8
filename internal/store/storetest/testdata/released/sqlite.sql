-- name: lease
SELECT 1 FROM nodes WHERE id = ? AND lease_until > ?

-- name: dedupe
INSERT OR FAIL INTO dedupe (key, event_id) VALUES (?, ?) ON CONFLICT (key) DO NOTHING

-- name: claimed
SELECT event_id FROM dedupe WHERE (key, event_id) IN (VALUES (?, ?))

-- name: store event
INSERT OR FAIL INTO events (id, type, state, tenant_id, number_id, source_id, phone_number_id, waba_id, conversation, form, occurred_at, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: store delivery
INSERT OR FAIL INTO deliveries (event_id, endpoint_id, node_id, due, after_endpoint, attempts, step) VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: first seen
SELECT event_id FROM dedupe WHERE key = ?

-- name: count repeat
INSERT INTO duplicates (event_id, at) VALUES (?, ?)

-- name: ready
SELECT id, type, state, tenant_id, number_id, source_id, phone_number_id, waba_id, conversation, form, occurred_at, body, attempts, step
FROM deliveries CROSS JOIN events ON events.id = deliveries.event_id
WHERE endpoint_id = ? AND node_id = 0 AND after_endpoint = 0 AND due <= ?
ORDER BY due, event_id LIMIT ?

-- name: hand out
UPDATE deliveries SET node_id = ? WHERE (event_id, endpoint_id) IN (VALUES (?, ?))

-- name: settle
DELETE FROM deliveries WHERE +node_id = ? AND (event_id, endpoint_id) IN (VALUES (?, ?))

-- name: settle and tell
DELETE FROM deliveries WHERE +node_id = ? AND (event_id, endpoint_id) IN (VALUES (?, ?))
RETURNING event_id, endpoint_id, attempts

-- name: put off
UPDATE deliveries SET node_id = ?1, due = CASE WHEN due = 0 AND ?1 = 0 THEN ?2 ELSE ?3 END, step = ?4, attempts = MAX(attempts, ?5)
WHERE event_id = ?6 AND endpoint_id = ?7 AND +node_id = ?8

-- name: attempt
INSERT OR FAIL INTO attempts (event_id, endpoint_id, n, at, duration, status, outcome, reason, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING

-- name: exhaust
INSERT INTO exhausted (endpoint_id, event_id, at, reason, attempts) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET at = excluded.at, reason = excluded.reason, attempts = excluded.attempts

-- name: waiting
SELECT event_id, endpoint_id, after_endpoint FROM deliveries WHERE +after_endpoint <> 0 AND event_id IN (VALUES (?))

-- name: release
UPDATE deliveries SET after_endpoint = 0, due = ? WHERE event_id = ? AND endpoint_id = ?

-- name: lease
SELECT 1 FROM nodes WHERE id = $1 AND lease_until > (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint FOR KEY SHARE

-- name: accept
WITH fresh AS (
	INSERT INTO dedupe (key, event_id)
	SELECT key, event_id FROM unnest($1::bytea[], $2::bigint[]) AS k (key, event_id) ORDER BY key
	ON CONFLICT (key) DO NOTHING
	RETURNING event_id
), stored AS (
	INSERT INTO events (id, type, state, tenant_id, number_id, source_id, phone_number_id, waba_id, conversation, form, occurred_at, body)
	SELECT id, type, state, tenant_id, number_id, source_id, phone_number_id, waba_id, conversation, form, occurred_at, body
	FROM unnest($3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[],
		$10::text[], $11::bigint[], $12::text[], $13::bigint[], $14::bytea[], $15::boolean[])
		AS e (id, type, state, tenant_id, number_id, source_id, phone_number_id, waba_id, conversation, form, occurred_at, body, keyed)
	WHERE NOT keyed OR id IN (SELECT event_id FROM fresh)
	RETURNING id
), owed AS (
	INSERT INTO deliveries (event_id, endpoint_id, node_id, due, after_endpoint, attempts, step)
	SELECT event_id, endpoint_id, node_id, due, after_endpoint, 0, 0
	FROM unnest($16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[])
		AS d (event_id, endpoint_id, node_id, due, after_endpoint)
	WHERE event_id IN (SELECT id FROM stored)
)
SELECT id FROM stored

-- name: count repeats
WITH first AS MATERIALIZED (
	SELECT k.key, d.event_id FROM unnest($1::bytea[]) AS k (key) JOIN dedupe d ON d.key = k.key
), counted AS (
	INSERT INTO duplicates (event_id, at) SELECT event_id, $2 FROM first
)
SELECT key, event_id FROM first

-- name: take
WITH ready AS MATERIALIZED (
	SELECT event_id, endpoint_id FROM deliveries
	WHERE endpoint_id = $2 AND node_id = 0 AND after_endpoint = 0 AND due <= $3
	ORDER BY due, event_id LIMIT $4
	FOR UPDATE SKIP LOCKED
), taken AS (
	UPDATE deliveries d SET node_id = $1 FROM ready
	WHERE d.event_id = ready.event_id AND d.endpoint_id = ready.endpoint_id
	RETURNING d.event_id, d.due, d.attempts, d.step
)
SELECT id, type, state, tenant_id, number_id, source_id, phone_number_id, waba_id, conversation, form, occurred_at, body, attempts, step
FROM taken JOIN events ON events.id = taken.event_id
ORDER BY due, event_id

-- name: remove
DELETE FROM deliveries d USING unnest($2::bigint[], $3::bigint[]) AS r (event_id, endpoint_id)
WHERE d.event_id = r.event_id AND d.endpoint_id = r.endpoint_id AND d.node_id = $1
RETURNING d.event_id, d.endpoint_id, d.attempts

-- name: put off
UPDATE deliveries d SET node_id = r.holder, due = CASE WHEN d.due = 0 AND r.holder = 0 THEN r.now ELSE r.due END,
	step = r.step, attempts = GREATEST(d.attempts, r.attempts)
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
	AS r (event_id, endpoint_id, holder, now, due, step, attempts)
WHERE d.event_id = r.event_id AND d.endpoint_id = r.endpoint_id AND d.node_id = $1
RETURNING d.event_id, d.endpoint_id, d.attempts

-- name: attempts
INSERT INTO attempts (event_id, endpoint_id, n, at, duration, status, outcome, reason, detail)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
	$7::text[], $8::text[], $9::bytea[])
ON CONFLICT DO NOTHING

-- name: exhaust
INSERT INTO exhausted (event_id, endpoint_id, at, reason, attempts)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[])
ON CONFLICT (endpoint_id, event_id)
DO UPDATE SET at = excluded.at, reason = excluded.reason, attempts = excluded.attempts

-- name: release
UPDATE deliveries d SET after_endpoint = 0, due = r.at
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS r (event_id, endpoint_id, at)
WHERE d.event_id = r.event_id AND d.after_endpoint = r.endpoint_id
RETURNING d.endpoint_id

-- name: fail waiting
WITH RECURSIVE failed AS (
	SELECT d.event_id, d.endpoint_id, r.at
	FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS r (event_id, endpoint_id, at)
	JOIN deliveries d ON d.event_id = r.event_id AND d.after_endpoint = r.endpoint_id
	UNION
	SELECT d.event_id, d.endpoint_id, failed.at
	FROM failed JOIN deliveries d ON d.event_id = failed.event_id AND d.after_endpoint = failed.endpoint_id
), gone AS (
	DELETE FROM deliveries d USING failed
	WHERE d.event_id = failed.event_id AND d.endpoint_id = failed.endpoint_id
	RETURNING d.event_id, d.endpoint_id, failed.at, d.attempts
)
INSERT INTO exhausted (event_id, endpoint_id, at, reason, attempts)
SELECT event_id, endpoint_id, at, $4, attempts FROM gone
ON CONFLICT (endpoint_id, event_id)
DO UPDATE SET at = excluded.at, reason = excluded.reason, attempts = excluded.attempts

-- name: table lock
LOCK TABLE nodes IN SHARE ROW EXCLUSIVE MODE

-- name: notify
SELECT pg_notify('waypost', '')
